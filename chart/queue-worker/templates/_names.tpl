{{/* What things are called, and the labels that they carry. */}}

{{- define "queue-worker.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "queue-worker.fullname" -}}
{{- $name := include "queue-worker.name" . }}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $full | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* The labels that Services and selectors go by; they never change. Takes (list $ COMPONENT). */}}
{{- define "queue-worker.selector" -}}
app.kubernetes.io/name: {{ include "queue-worker.name" (index . 0) }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* All labels; commonLabels add to the chart's own and change none. Takes (list $ COMPONENT). */}}
{{- define "queue-worker.labels" -}}
{{- $root := index . 0 }}
{{- $own := include "queue-worker.selector" . | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/version" $root.Chart.AppVersion }}
{{- $_ := set $own "app.kubernetes.io/part-of" (include "queue-worker.name" $root) }}
{{- $_ := set $own "app.kubernetes.io/managed-by" $root.Release.Service }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") }}
{{- merge $own $root.Values.commonLabels | toYaml }}
{{- end }}

{{- define "queue-worker.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "queue-worker.fullname" .) "default") }}
{{- end }}

{{/* The built-in NATS. */}}
{{- define "queue-worker.natsName" -}}
{{ include "queue-worker.fullname" . }}-nats
{{- end }}

{{/* The reference of an image: a string as it is, or its parts. Takes (list IMAGE TAG), where TAG is for an image without one. */}}
{{- define "queue-worker.image" -}}
{{- $image := index . 0 }}
{{- if kindIs "string" $image }}
{{- $image }}
{{- else if $image.digest }}
{{- printf "%s@%s" $image.repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $image.repository ($image.tag | default (index . 1)) }}
{{- end }}
{{- end }}

{{/* When to pull it. */}}
{{- define "queue-worker.pullPolicy" -}}
{{- kindIs "string" . | ternary "IfNotPresent" (dig "pullPolicy" "IfNotPresent" (kindIs "string" . | ternary dict .)) }}
{{- end }}
