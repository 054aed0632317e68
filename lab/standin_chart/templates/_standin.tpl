{{/* The image of all containers: of the values, where one is meant to fail. */}}
{{- define "standin.image" -}}
{{- $given := regexFind "(fail\\.invalid/[a-z]+|no-such-image[^\"\\s]*)" (toJson .Values) -}}
{{- default (printf "standin.invalid/%s:%s" .Chart.Name (.Chart.AppVersion | replace "+" "-")) $given -}}
{{- end }}

{{/* The first node that a nodeSelector of the values names. */}}
{{- define "standin.node" -}}
{{- $found := list -}}
{{- range $key, $value := . -}}
{{- if kindIs "map" $value -}}
{{- $node := ternary (get $value "kubernetes.io/hostname") "" (eq (toString $key) "nodeSelector") -}}
{{- $found = append $found (default (include "standin.node" $value) $node) -}}
{{- else if kindIs "slice" $value -}}
{{- range $value }}{{ if kindIs "map" . }}{{ $found = append $found (include "standin.node" .) }}{{ end }}{{ end -}}
{{- end -}}
{{- end -}}
{{- first (append (compact $found) "") -}}
{{- end }}

{{/* Says so when the values want any Deployment to end its old pods first. */}}
{{- define "standin.recreate" -}}
{{- range $key, $value := . -}}
{{- if kindIs "map" $value -}}
{{- if and (regexMatch "(?i)(strategy|update)$" (toString $key)) (eq (toString (get $value "type")) "Recreate") -}}
yes
{{- else -}}
{{- include "standin.recreate" $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* A line of JSON for each map of the values with `type: LoadBalancer`. */}}
{{- define "standin.balancers" -}}
{{- range $key, $value := . }}
{{- if kindIs "map" $value }}
{{- if eq (toString (get $value "type")) "LoadBalancer" }}
{{ pick $value "annotations" "loadBalancerIP" | toJson }}
{{- end }}
{{- include "standin.balancers" $value }}
{{- end }}
{{- end }}
{{- end }}

{{/* What the values hold under the names by which charts take objects of their users. */}}
{{- define "standin.extras" -}}
{{- $root := .root }}
{{- range $key, $value := .values }}
{{- if has $key (list "extraObjects" "extraManifests") }}
{{- range $value }}
---
{{ tpl (kindIs "string" . | ternary . (toYaml .)) $root }}
{{- end }}
{{- else if kindIs "map" $value }}
{{- include "standin.extras" (dict "root" $root "values" $value) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "standin.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- end }}
