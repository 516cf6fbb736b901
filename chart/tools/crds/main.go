// Command crds reads rendered manifests and holds those that belong to operators to the operators' own Go types, strictly: no
// field that they do not have, none of the wrong type. The alerts are read as Prometheus reads them, queries and templates
// included. Everything else only has to be YAML without a key that stands twice.
//
//	crds FILE...
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	yamldocuments "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// What each kind is read into.
var kinds = map[string]func() any{
	"monitoring.coreos.com/v1 ServiceMonitor": func() any { return new(monitoring.ServiceMonitor) },
	"monitoring.coreos.com/v1 PodMonitor":     func() any { return new(monitoring.PodMonitor) },
	"monitoring.coreos.com/v1 PrometheusRule": func() any { return new(monitoring.PrometheusRule) },
	"keda.sh/v1alpha1 ScaledObject":           func() any { return new(keda.ScaledObject) },
}

func main() {
	seen := map[string]int{}
	faults := 0
	for _, path := range os.Args[1:] {
		for _, err := range file(path, seen) {
			fmt.Printf("%s: %v\n", path, err)
			faults++
		}
	}
	for kind := range kinds {
		if seen[kind] == 0 {
			fmt.Printf("no manifest is a %s\n", kind)
			faults++
		}
	}
	fmt.Printf("%v, %d faults\n", seen, faults)
	if faults > 0 {
		os.Exit(1)
	}
}

func file(path string, seen map[string]int) (faults []error) {
	opened, err := os.Open(path)
	if err != nil {
		return []error{err}
	}
	defer opened.Close()
	documents := yamldocuments.NewYAMLReader(bufio.NewReader(opened))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return faults
		}
		if err == nil {
			err = manifest(document, seen)
		}
		if err != nil {
			faults = append(faults, err)
		}
	}
}

func manifest(document []byte, seen map[string]int) error {
	var fields map[string]any
	if err := yaml.UnmarshalStrict(document, &fields); err != nil || fields == nil {
		return err
	}
	kind := fmt.Sprintf("%v %v", fields["apiVersion"], fields["kind"])
	typed, known := kinds[kind]
	if !known {
		return nil
	}
	seen[kind]++
	into := typed()
	if err := yaml.UnmarshalStrict(document, into); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	if rules, ok := into.(*monitoring.PrometheusRule); ok {
		return prometheus(rules.Spec)
	}
	return nil
}

// prometheus reads groups of rules as Prometheus does.
func prometheus(rules monitoring.PrometheusRuleSpec) error {
	content, err := yaml.Marshal(rules)
	if err != nil {
		return err
	}
	_, faults := rulefmt.Parse(bytes.TrimSpace(content), false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.Default())
	return errors.Join(faults...)
}
