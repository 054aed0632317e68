{{/* krakend.json: what the values say, in KrakenD's words. */}}
{{- define "krakend.config" -}}
{{- $jwt := .Values.jwt -}}
{{- $endpoints := list -}}
{{- range .Values.endpoints -}}
{{- if or (ne .access "token") $jwt.enabled -}}
{{- $encoding := .encoding | default "json" -}}
{{- $endpoint := dict
  "endpoint" .path
  "method" (.method | default "GET")
  "output_encoding" $encoding
  "input_query_strings" (.query | default list)
  "input_headers" (.headers | default list)
  "backend" (list (dict "host" (list .host) "url_pattern" (.to | default .path) "method" (.method | default "GET") "encoding" $encoding))
-}}
{{- $extra := dict -}}
{{- if eq .access "token" -}}
{{- $_ := set $extra "auth/validator" (dict
  "alg" $jwt.algorithm
  "jwk_url" (required "jwt.jwkUrl: say where the keys are that tokens are signed with" $jwt.jwkUrl)
  "issuer" (required "jwt.issuer: say who signs the tokens" $jwt.issuer)
  "audience" (required "jwt.audience: say for whom the tokens are" ($jwt.audience | default nil))
  "cache" true
) -}}
{{- end -}}
{{- if .rate -}}
{{- $_ := set $extra "qos/ratelimit/router" (dict "max_rate" .rate) -}}
{{- end -}}
{{- if $extra -}}
{{- $_ := set $endpoint "extra_config" $extra -}}
{{- end -}}
{{- $endpoints = append $endpoints $endpoint -}}
{{- end -}}
{{- end -}}
{{- $config := dict
  "$schema" "https://www.krakend.io/schema/v2.13/krakend.json"
  "version" 3
  "name" (include "platform.name" .)
  "port" 8080
  "timeout" .Values.timeout
  "endpoints" $endpoints
  "extra_config" (dict
    "telemetry/logging" (dict "level" "INFO" "prefix" "[KRAKEND]" "stdout" true)
    "telemetry/opentelemetry" (dict
      "service_name" (include "platform.name" .)
      "metric_reporting_period" 30
      "exporters" (dict "prometheus" (list (dict "name" "metrics" "port" 9090 "process_metrics" true "go_metrics" true)))
    )
    "router" (dict "hide_version_header" true)
  )
-}}
{{- if .Values.tls.enabled -}}
{{- $_ := set $config "tls" (dict "keys" (list (dict "public_key" "/etc/krakend-tls/tls.crt" "private_key" "/etc/krakend-tls/tls.key"))) -}}
{{- end -}}
{{- mergeOverwrite $config .Values.config | toPrettyJson -}}
{{- end }}

{{- define "krakend.scheme" -}}
{{ ternary "HTTPS" "HTTP" .Values.tls.enabled }}
{{- end }}
