{{/* What the schema cannot say: values that do not go together. All of it is reported at once. */}}
{{- define "queue-worker.check" -}}
{{- $faults := list }}
{{- $metrics := .Values.metrics }}
{{- if and .Values.nats.enabled .Values.natsUrl }}
{{- $faults = append $faults "natsUrl, nats.enabled: expected one of them, since the worker would not use the built-in NATS" }}
{{- end }}
{{- range $key := list "queueName" "natsStream" "natsFilterSubject" }}
{{- if and $.Values.queues (get $.Values $key) }}
{{- $faults = append $faults (printf "%s: expected it in the entries of queues, since each has its own" $key) }}
{{- end }}
{{- end }}
{{- if and $metrics.serviceMonitor.enabled $metrics.podMonitor.enabled }}
{{- $faults = append $faults "metrics.serviceMonitor.enabled, metrics.podMonitor.enabled: expected one of them, since everything would be counted twice" }}
{{- end }}
{{- if and $metrics.serviceMonitor.enabled (not $metrics.service.enabled) }}
{{- $faults = append $faults "metrics.serviceMonitor.enabled: expected metrics.service.enabled too, or metrics.podMonitor.enabled in its place" }}
{{- end }}
{{- range $worker := include "queue-worker.workers" . | fromJsonArray }}
{{- $values := $worker.values }}
{{- $where := empty $.Values.queues | ternary "" (printf "%s: " $worker.name) }}
{{- if and $values.autoscaling.enabled $values.keda.enabled }}
{{- $faults = append $faults (printf "%sautoscaling.enabled, keda.enabled: expected one of them, since two would fight over the replicas" $where) }}
{{- end }}
{{- range $name := list "autoscaling" "keda" }}
{{- $scaling := get $values $name }}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) }}
{{- $faults = append $faults (printf "%s%s.minReplicas: %v: expected at most maxReplicas, %v" $where $name $scaling.minReplicas $scaling.maxReplicas) }}
{{- end }}
{{- end }}
{{- range $pair := list (list "ingressAddr" "listenAddr") (list "apiAddr" "listenAddr") (list "apiAddr" "ingressAddr") }}
{{- $ports := dict "listenAddr" (include "queue-worker.port" $values) "ingressAddr" (include "queue-worker.ingressPort" $values) "apiAddr" (include "queue-worker.apiPort" $values) }}
{{- $port := get $ports (first $pair) }}
{{- if and $port (eq $port (get $ports (last $pair))) }}
{{- $faults = append $faults (printf "%s%s: expected two ports, both are %s" $where (join ", " $pair) $port) }}
{{- end }}
{{- end }}
{{- range $key := list "ingressAddr" "apiAddr" }}
{{- $addr := get $values $key }}
{{- if and $addr (not (regexMatch "^.*:[1-9][0-9]*$" $addr)) }}
{{- $faults = append $faults (printf "%s%s: %s: expected an address with a port that a Service can lead to" $where $key $addr) }}
{{- end }}
{{- end }}
{{- $logins := list }}
{{- range $key := list "natsCredsFile" "natsNkeyFile" "natsTokenFile" "natsPasswordFile" }}
{{- if include "queue-worker.path" (list $key (get $values $key)) }}
{{- $logins = append $logins $key }}
{{- end }}
{{- end }}
{{- if gt (len $logins) 1 }}
{{- $faults = append $faults (printf "%s%s: expected one of them, since one logs in in one way" $where (join ", " $logins)) }}
{{- end }}
{{- if ne (include "queue-worker.path" (list "tls" $values.natsCertFile)) (include "queue-worker.path" (list "tls" $values.natsKeyFile)) }}
{{- $faults = append $faults (printf "%snatsCertFile, natsKeyFile: expected both or neither" $where) }}
{{- end }}
{{- end }}
{{- with $faults }}
{{- fail (printf "\n\n%s\n" (join "\n" .)) }}
{{- end }}
{{- end }}
