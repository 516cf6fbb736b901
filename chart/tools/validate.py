"""Holds every manifest of the given files to the schemas of a version of Kubernetes, strictly: no field that they do not
know, none of the wrong type. What belongs to operators is left to manifests.

usage: validate.py VERSION FILE...
"""

import sys

import kubernetes_validate
import yaml


# The C loader, where there is one: these are megabytes over all versions.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def is_of_kubernetes(manifest):
    group = manifest["apiVersion"].rpartition("/")[0]
    return "." not in group or group.endswith(".k8s.io")


def main(version, paths):
    checked = faults = 0
    for path in paths:
        with open(path) as file:
            manifests = [manifest for manifest in yaml.load_all(file, Loader=LOADER) if manifest]
        for manifest in filter(is_of_kubernetes, manifests):
            checked += 1
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                faults += 1
                name = f"{manifest['kind']}/{manifest['metadata']['name']}"
                print(f"{path}: {name}: {'.'.join(map(str, error.path))}: {error.message}")
    print(f"Kubernetes {version}: {checked} manifests, {faults} faults")
    sys.exit(faults > 0 or not checked)


main(sys.argv[1], sys.argv[2:])
