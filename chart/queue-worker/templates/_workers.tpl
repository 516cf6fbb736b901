{{/* The workers of the release, as a JSON list: one, or one for each entry of `queues`. Each is

       name       of its Deployment
       values     the values of the chart with its own in their place
       selector   the labels that its Pods are known by
       labels     all of its labels

     so that a manifest loops over them and looks nowhere else. */}}
{{- define "queue-worker.workers" -}}
{{- $workers := list }}
{{- $fullname := include "queue-worker.fullname" . }}
{{- $selector := include "queue-worker.selector" (list . "worker") | fromYaml }}
{{- $labels := include "queue-worker.labels" (list . "worker") | fromYaml }}
{{- $shared := merge (include "queue-worker.servers" . | fromJson) (omit .Values "queues" "commonLabels" "extraObjects" "nats" "global") }}
{{- if .Values.queues }}
{{- $names := dict }}
{{- range $queue, $own := .Values.queues }}
{{- $slug := regexReplaceAll "[^a-z0-9]+" (lower $queue) "-" | trimAll "-" | required (printf "queues.%s: expected a name with a letter or a digit in it" $queue) }}
{{- $name := printf "%s-%s" $fullname $slug | trunc 63 | trimSuffix "-" }}
{{- with get $names $name }}
{{- fail (printf "queues: %q and %q would both be the Deployment %s; expected names that differ in letters and digits" . $queue $name) }}
{{- end }}
{{- $_ := set $names $name $queue }}
{{- $mine := dict "queue-worker/queue" (trunc 63 $slug | trimSuffix "-") }}
{{- $values := include "queue-worker.override" (list (set (deepCopy $shared) "queueName" $queue) ($own | default dict)) | fromJson }}
{{- $workers = append $workers (dict "name" $name "values" $values "selector" (merge (dict) $mine $selector) "labels" (merge (dict) $mine $labels)) }}
{{- end }}
{{- else }}
{{- $workers = list (dict "name" $fullname "values" $shared "selector" $selector "labels" $labels) }}
{{- end }}
{{- toJson $workers }}
{{- end }}

{{/* The second map laid over the first, at any depth, as JSON. Sprig's mergeOverwrite would skip false, 0 and "". */}}
{{- define "queue-worker.override" -}}
{{- $base := index . 0 }}
{{- range $key, $value := index . 1 }}
{{- if and (kindIs "map" $value) (kindIs "map" (get $base $key)) }}
{{- $value = include "queue-worker.override" (list (get $base $key) $value) | fromJson }}
{{- end }}
{{- $_ := set $base $key $value }}
{{- end }}
{{- toJson $base }}
{{- end }}

{{/* The servers, as {"natsUrl": …}: those that are named, else the release's own, else OpenFaaS's. */}}
{{- define "queue-worker.servers" -}}
{{- $host := .Values.nats.enabled | ternary (include "queue-worker.natsName" .) "nats" }}
{{- dict "natsUrl" (.Values.natsUrl | default (printf "nats://%s:4222" $host)) | toJson }}
{{- end }}

{{/* The queues of one worker, as a JSON list of {queue, stream}. Takes its values. */}}
{{- define "queue-worker.served" -}}
{{- $streams := include "queue-worker.text" .natsStream | splitList "," | compact }}
{{- $names := include "queue-worker.text" .queueName | splitList "," | compact | default $streams | default (list "faas-request") }}
{{- $queues := list }}
{{- range $index, $name := $names }}
{{- $stream := lt $index (len $streams) | ternary (index (concat $streams $names) $index) (replace "." "_" (trim $name)) }}
{{- $queues = append $queues (dict "queue" (trim $name) "stream" (trim $stream)) }}
{{- end }}
{{- toJson $queues }}
{{- end }}
