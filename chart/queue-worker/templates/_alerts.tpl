{{/* The groups of files/alerts.yaml less the alerts that are disabled, with more labels and links that lead somewhere. The file is
     plain rules for Prometheus, which braces of its own: it is read as YAML and not as a template. Takes (list $ VALUES). */}}
{{- define "queue-worker.alerts" -}}
{{- $root := index . 0 }}
{{- $values := index . 1 }}
{{- $groups := list }}
{{- range ($root.Files.Get "files/alerts.yaml" | fromYaml).groups }}
{{- $rules := list }}
{{- range .rules }}
{{- if not (has .alert $values.disabled) }}
{{- $rule := deepCopy . }}
{{- $_ := set $rule "labels" (merge (dict) $values.alertLabels .labels) }}
{{- with $values.runbookUrl }}
{{- $_ := set $rule.annotations "runbook_url" (printf "%s/%s" . $rule.annotations.runbook_url) }}
{{- end }}
{{- $rules = append $rules $rule }}
{{- end }}
{{- end }}
{{- if $rules }}
{{- $groups = append $groups (set (deepCopy .) "rules" $rules) }}
{{- end }}
{{- end }}
{{- toYaml $groups }}
{{- end }}
