{{/* Labels of every object. */}}
{{- define "platform-config.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: piclusterops
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Reference of an image: `image`, from `imageRegistry` where that is set. */}}
{{- define "platform-config.image" -}}
{{ .root.Values.imageRegistry | default .image.registry }}/{{ .image.repository }}:{{ .image.tag }}
{{- with .image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* Security context of our own pods, which need nothing. */}}
{{- define "platform-config.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65534
runAsGroup: 65534
# reads the files of Secrets
fsGroup: 65534
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "platform-config.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Pods by their app.kubernetes.io/name; all of them when there are no names. */}}
{{- define "platform-config.podSelector" -}}
{{- if . -}}
matchExpressions:
  - key: app.kubernetes.io/name
    operator: In
    values: {{ toJson . }}
{{- else -}}
{}
{{- end -}}
{{- end }}

{{/* The rules of a NetworkPolicy in one direction. */}}
{{- define "platform-config.policyRules" -}}
{{- range $name, $rule := .rules }}
# {{ $name }}
-
  {{- if not (has "anyone" $rule.peers) }}
  {{ $.peers }}:
    {{- range $rule.peers }}
    {{- include "platform-config.policyPeer" (dict "peer" . "policies" $.policies) | trim | nindent 4 }}
    {{- end }}
  {{- end }}
  {{- with $rule.ports }}
  ports:
    {{- range . }}
    {{- $parts := splitList "/" (toString .) }}
    {{- $ends := splitList "-" (first $parts) }}
    - protocol: {{ index (append $parts "TCP") 1 }}
      port: {{ first $ends }}
      {{- if gt (len $ends) 1 }}
      endPort: {{ last $ends }}
      {{- end }}
    {{- end }}
  {{- end }}
  {{- if and (has "anyone" $rule.peers) (not $rule.ports) }} {}
  {{- end }}
{{- end }}
{{- end }}

{{/* A peer of a rule, see networkPolicies.namespaces in values.yaml. */}}
{{- define "platform-config.policyPeer" -}}
{{- if eq .peer "same" }}
- podSelector: {}
{{- else if eq .peer "api" }}
{{- range .policies.apiServers }}
- ipBlock:
    cidr: {{ . }}/32
{{- end }}
{{- else if eq .peer "servers" }}
{{- range concat .policies.apiServers .policies.serverTunnels }}
- ipBlock:
    cidr: {{ . }}/32
{{- end }}
{{- else if eq .peer "outside" }}
- ipBlock:
    cidr: 0.0.0.0/0
    except:
      {{- toYaml (concat (list .policies.podCidr .policies.serviceCidr) .policies.nodes) | nindent 6 }}
{{- else if eq .peer "internet" }}
- ipBlock:
    cidr: 0.0.0.0/0
    except:
      {{- toYaml .policies.privateNetworks | nindent 6 }}
{{- else }}
{{- $parts := splitList "/" .peer }}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ first $parts }}
  {{- if gt (len $parts) 1 }}
  podSelector:
    {{- include "platform-config.podSelector" (splitList "," (last $parts)) | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
