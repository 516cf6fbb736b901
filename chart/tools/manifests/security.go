package main

import (
	"fmt"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	admission "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// Where a kind keeps its Pod.
var pods = map[string]func(document []byte) (core.PodTemplateSpec, error){
	"apps/v1 Deployment": func(document []byte) (core.PodTemplateSpec, error) {
		var deployment apps.Deployment
		err := yaml.UnmarshalStrict(document, &deployment)
		return deployment.Spec.Template, err
	},
	"apps/v1 StatefulSet": func(document []byte) (core.PodTemplateSpec, error) {
		var set apps.StatefulSet
		err := yaml.UnmarshalStrict(document, &set)
		return set.Spec.Template, err
	},
	"v1 Pod": func(document []byte) (core.PodTemplateSpec, error) {
		var pod core.Pod
		err := yaml.UnmarshalStrict(document, &pod)
		return core.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}, err
	},
}

// restricted asks what Kubernetes's own admission would say of a Pod in a namespace that enforces the restricted standard.
func restricted(document []byte, pod func([]byte) (core.PodTemplateSpec, error)) error {
	template, err := pod(document)
	if err != nil {
		return err
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	standard := admission.LevelVersion{Level: admission.LevelRestricted, Version: admission.LatestVersion()}
	metadata := meta.ObjectMeta{Name: template.Name, Annotations: template.Annotations}
	result := policy.AggregateCheckResults(evaluator.EvaluatePod(standard, &metadata, &template.Spec))
	if !result.Allowed {
		return fmt.Errorf("the restricted Pod security standard forbids it: %s", result.ForbiddenDetail())
	}
	return nil
}
