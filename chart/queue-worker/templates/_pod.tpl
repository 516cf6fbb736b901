{{/* The parts of a worker's Pod that need more than a line. */}}

{{/* Its probes, with the chart's paths in them. Takes a worker's values. */}}
{{- define "queue-worker.probes" -}}
{{- $values := . }}
{{- range $probe, $path := dict "startupProbe" "/healthz" "livenessProbe" "/healthz" "readinessProbe" "/readyz" }}
{{- with get $values $probe }}
{{ $probe }}:
  httpGet: {path: {{ $path }}, port: metrics}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* Its annotations. A Pod that a monitor finds is not to be scraped twice. Takes a worker's values. */}}
{{- define "queue-worker.podAnnotations" -}}
{{- $annotations := dict }}
{{- if and .metrics.annotations (not .metrics.serviceMonitor.enabled) (not .metrics.podMonitor.enabled) }}
{{- $annotations = dict "prometheus.io/scrape" "true" "prometheus.io/port" (include "queue-worker.port" .) "prometheus.io/path" "/metrics" }}
{{- end }}
{{- with merge (dict) .podAnnotations $annotations }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* How its Pods are spread; a constraint without a selector is about its own Pods. Takes a worker. */}}
{{- define "queue-worker.topologySpread" -}}
{{- $selector := dict "labelSelector" (dict "matchLabels" .selector) }}
{{- range .values.topologySpreadConstraints }}
- {{ merge (dict) . $selector | toYaml | indent 2 | trim }}
{{- end }}
{{- end }}
