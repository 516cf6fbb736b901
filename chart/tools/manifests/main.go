// Command manifests reads rendered manifests and finds the faults that Kubernetes's schemas do not show: kinds of operators that their
// operators would not read, Pods that the restricted Pod security standard would not let in, keys that stand twice.
//
//	manifests FILE...
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	documents "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

func main() {
	seen := map[string]int{}
	faults := 0
	for _, path := range os.Args[1:] {
		for _, fault := range file(path, seen) {
			fmt.Printf("%s: %v\n", path, fault)
			faults++
		}
	}
	// A check that is never made holds nothing.
	for _, kind := range checked() {
		if seen[kind] == 0 {
			fmt.Printf("no manifest is a %s\n", kind)
			faults++
		}
		fmt.Printf("%s: %d\n", kind, seen[kind])
	}
	fmt.Printf("%d faults\n", faults)
	if faults > 0 {
		os.Exit(1)
	}
}

// file gives the faults of the manifests in a file, and counts in `seen` what it has read.
func file(path string, seen map[string]int) (faults []error) {
	opened, err := os.Open(path)
	if err != nil {
		return []error{err}
	}
	defer opened.Close()
	reader := documents.NewYAMLReader(bufio.NewReader(opened))
	for {
		document, err := reader.Read()
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
	seen[kind]++
	var err error
	if into, ok := operators[kind]; ok {
		err = operator(document, into())
	} else if pod, ok := pods[kind]; ok {
		err = restricted(document, pod)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	return nil
}

// checked lists the kinds that are looked at.
func checked() []string {
	return append(slices.Sorted(maps.Keys(operators)), slices.Sorted(maps.Keys(pods))...)
}
