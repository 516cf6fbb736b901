package main

import (
	"errors"
	"log/slog"

	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

// What the kinds of operators are read into: the operators' own types.
var operators = map[string]func() any{
	"monitoring.coreos.com/v1 ServiceMonitor": func() any { return new(monitoring.ServiceMonitor) },
	"monitoring.coreos.com/v1 PodMonitor":     func() any { return new(monitoring.PodMonitor) },
	"monitoring.coreos.com/v1 PrometheusRule": func() any { return new(monitoring.PrometheusRule) },
	"keda.sh/v1alpha1 ScaledObject":           func() any { return new(keda.ScaledObject) },
}

// operator reads a manifest strictly: no field that the type does not have, none of the wrong type.
func operator(document []byte, into any) error {
	if err := yaml.UnmarshalStrict(document, into); err != nil {
		return err
	}
	if rule, ok := into.(*monitoring.PrometheusRule); ok {
		return rules(rule.Spec)
	}
	return nil
}

// rules reads groups of rules as Prometheus does, queries and templates included.
func rules(groups monitoring.PrometheusRuleSpec) error {
	content, err := yaml.Marshal(groups)
	if err != nil {
		return err
	}
	_, faults := rulefmt.Parse(content, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.Default())
	return errors.Join(faults...)
}
