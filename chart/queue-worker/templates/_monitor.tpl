{{/* A ServiceMonitor or a PodMonitor: they differ in their kind and in what they call their endpoints. Takes (list $ KIND VALUES ENDPOINTS). */}}
{{- define "queue-worker.monitor" -}}
{{- $root := index . 0 }}
{{- $monitor := index . 2 }}
apiVersion: monitoring.coreos.com/v1
kind: {{ index . 1 }}
metadata:
  name: {{ include "queue-worker.fullname" $root }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "queue-worker.labels" (list $root "worker") | nindent 4 }}
    {{- with $monitor.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels: {{- include "queue-worker.selector" (list $root "worker") | nindent 6 }}
  {{ index . 3 }}:
    - port: metrics
      path: /metrics
      interval: {{ $monitor.interval }}
      scrapeTimeout: {{ $monitor.scrapeTimeout }}
      {{- with $monitor.relabelings }}
      relabelings: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $monitor.metricRelabelings }}
      metricRelabelings: {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end }}
