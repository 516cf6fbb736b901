{{/* From values to the program's environment: one loop, so that a setting needs its name here, its default in values.yaml and
     its form in values.schema.json, and nothing else. */}}

{{/* The settings that have a value: max_inflight is maxInflight there. */}}
{{- define "queue-worker.settings" -}}
nats_url nats_creds_file nats_nkey_file nats_token_file nats_user nats_password_file nats_ca_file nats_cert_file nats_key_file
nats_tls_first nats_js_domain nats_inbox_prefix nats_manage
queue_name nats_stream nats_filter_subject nats_durable nats_deliver nats_stream_replicas nats_stream_max_bytes
input target_url target_method target_token_file target_headers
ingress_addr ingress_max_body ingress_max_delay ingress_token_file
api_addr api_token_file
stan_bridge faas_nats_cluster_name
gateway_url gateway_ca_file function_namespace function_lookup function_lookup_ttl basic_auth
max_inflight max_inflight_bytes ack_wait upstream_timeout confirm_acks
max_retry_attempts initial_retry_wait max_retry_wait http_retry_codes backoff immediate_retries max_retry_after max_message_age
retry_timer retries_max_bytes
dead_letters dead_letter_max_age dead_letter_max_bytes
audit audit_max_age audit_max_bytes
callback_timeout callback_attempts callback_max_body callback_memory allowed_callback_urls callback_deny_private callback_signing_secret_file
tls_insecure
shutdown_grace listen_addr log_encoding debug
otel_exporter_otlp_endpoint otel_exporter_otlp_traces_endpoint otel_exporter_otlp_headers otel_exporter_otlp_protocol
otel_service_name otel_resource_attributes otel_traces_sampler otel_traces_sampler_arg otel_sdk_disabled
{{- end }}

{{/* Where the files of Secrets and ConfigMaps lie in the container. */}}
{{- define "queue-worker.folder" -}}
/var/run/queue-worker
{{- end }}

{{/* The environment of a worker. Takes its values. What is empty is not rendered: the program's own default holds. A setting in
     extraEnv takes the place of the value, however it is spelled, so that a Secret can bring it. */}}
{{- define "queue-worker.env" -}}
{{- $values := . }}
{{- $given := list }}
{{- range .extraEnv }}
{{- $given = append $given (.name | lower | replace "_" "") }}
{{- end }}
{{- range $setting := regexSplit "\\s+" (include "queue-worker.settings" .) -1 }}
{{- $value := get $values ($setting | camelcase | untitle) }}
{{- $text := kindIs "map" $value | ternary (include "queue-worker.path" (list $setting $value)) (include "queue-worker.text" $value) }}
{{- if and $text (not (has (replace "_" "" $setting) $given)) }}
- name: {{ $setting }}
  value: {{ $text | quote }}
{{- end }}
{{- end }}
{{- if and .otelExporterOtlpHeaders.secret (not (has "otelexporterotlpheaders" $given)) }}
- name: otel_exporter_otlp_headers
  valueFrom: {secretKeyRef: {name: {{ .otelExporterOtlpHeaders.secret }}, key: {{ .otelExporterOtlpHeaders.key | quote }}}}
{{- end }}
{{- if .basicAuth }}
- name: secret_mount_path
  value: {{ include "queue-worker.folder" . }}
{{- end }}
{{- with .extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Where a file lies, if there is one. The headers for the collector are no file: every program takes them from its environment.
     Takes (list SETTING FILE). */}}
{{- define "queue-worker.path" -}}
{{- $file := index . 1 }}
{{- if and (kindIs "map" $file) (ne (index . 0) "otel_exporter_otlp_headers") }}
{{- if or $file.secret $file.configMap }}
{{- include "queue-worker.folder" . }}/{{ index . 0 }}
{{- end }}
{{- end }}
{{- end }}

{{/* A value as one types it: lists joined, and whole numbers without the exponent that large ones get in templates. */}}
{{- define "queue-worker.text" -}}
{{- if kindIs "slice" . }}
{{- $words := list }}
{{- range . }}
{{- $words = append $words (include "queue-worker.text" .) }}
{{- end }}
{{- join "," $words }}
{{- else if and (kindIs "float64" .) (eq (floor .) .) }}
{{- int64 . }}
{{- else if not (kindIs "invalid" .) }}
{{- . }}
{{- end }}
{{- end }}

{{/* The files that the environment above names, as the sources of a projected volume. Takes a worker's values. */}}
{{- define "queue-worker.files" -}}
{{- $values := . }}
{{- range $setting := regexSplit "\\s+" (include "queue-worker.settings" .) -1 }}
{{- $file := get $values ($setting | camelcase | untitle) }}
{{- if include "queue-worker.path" (list $setting $file) }}
- {{ empty $file.secret | ternary "configMap" "secret" }}:
    name: {{ $file.secret | default $file.configMap }}
    items: [{key: {{ $file.key | quote }}, path: {{ $setting }}}]
{{- end }}
{{- end }}
{{- if .basicAuth }}
- secret:
    name: {{ .basicAuthSecret }}
    items: [{key: basic-auth-user, path: basic-auth-user}, {key: basic-auth-password, path: basic-auth-password}]
{{- end }}
{{- end }}

{{/* A Go duration in whole seconds, rounded up. Go reads it itself: a date is moved by it. */}}
{{- define "queue-worker.seconds" -}}
{{- $moved := toDate "2006-01-02 MST" "1970-01-01 UTC" | mustDateModify . }}
{{- div (add $moved.UnixMilli 999) 1000 }}
{{- end }}

{{/* The port of listen_addr. Takes a worker's values. */}}
{{- define "queue-worker.port" -}}
{{- .listenAddr | default "0.0.0.0:8081" | splitList ":" | last }}
{{- end }}

{{/* The port of ingress_addr; nothing where callers cannot enqueue. Takes a worker's values. */}}
{{- define "queue-worker.ingressPort" -}}
{{- .ingressAddr | default "" | splitList ":" | last }}
{{- end }}

{{/* The port of api_addr; nothing where there is no API. Takes a worker's values. */}}
{{- define "queue-worker.apiPort" -}}
{{- .apiAddr | default "" | splitList ":" | last }}
{{- end }}
