{{/*
What our charts of applications have in common. The file is the same in all of them, so that each can be installed by
itself; tests/charts keeps it so.
*/}}

{{/* Name of everything of the release. */}}
{{- define "platform.name" -}}
{{ .Values.fullnameOverride | default .Release.Name | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "platform.labels" -}}
{{ include "platform.instance" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: piclusterops
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels that say which chart and which release. */}}
{{- define "platform.instance" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels that only the pods of the application itself have; those of the test are another component. */}}
{{- define "platform.selector" -}}
{{ include "platform.instance" . }}
app.kubernetes.io/component: server
{{- end }}

{{/* Labels of the pod of `helm test`. */}}
{{- define "platform.testSelector" -}}
{{ include "platform.instance" . }}
app.kubernetes.io/component: test
{{- end }}

{{/* Name and namespace; `suffix` is appended to the name. */}}
{{- define "platform.metadata" -}}
name: {{ include "platform.name" .root }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "platform.labels" .root | nindent 2 }}
{{- end }}

{{/* Reference of an image: `image` of `root`'s values, from `imageRegistry` where that is set. */}}
{{- define "platform.image" -}}
{{ .root.Values.imageRegistry | default .image.registry }}/{{ .image.repository }}:{{ .image.tag }}
{{- with .image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* Where pods go, and how they are treated there. */}}
{{- define "platform.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The account of the pods; it may do nothing, and they have no token of it. */}}
{{- define "platform.account" -}}
serviceAccountName: {{ include "platform.accountName" . }}
automountServiceAccountToken: false
# no variables for each service of the namespace: some applications take them for settings
enableServiceLinks: false
{{- end }}

{{- define "platform.accountName" -}}
{{ if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "platform.name" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "platform.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "platform.accountName" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "platform.labels" . | nindent 4 }}
automountServiceAccountToken: false
{{- end }}
{{- end }}

{{/* The claim for the data of the application. */}}
{{- define "platform.claimName" -}}
{{ .Values.persistence.existingClaim | default (include "platform.name" .) }}
{{- end }}

{{- define "platform.claim" -}}
{{- if not .Values.persistence.existingClaim -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  {{- include "platform.metadata" (dict "root" .) | nindent 2 }}
  annotations:
    # data outlives the release: remove it by hand
    helm.sh/resource-policy: keep
spec:
  accessModes: [ReadWriteOnce]
  {{- with .Values.persistence.storageClass }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ .Values.persistence.size }}
{{- end }}
{{- end }}

{{/* How a service is published: its type, and from where it takes connections. */}}
{{- define "platform.publication" -}}
type: {{ .Values.service.type }}
{{- if eq .Values.service.type "LoadBalancer" }}
# the pod has to see who connects, else the network policy can't tell the LAN from the internet
externalTrafficPolicy: Local
allocateLoadBalancerNodePorts: false
loadBalancerSourceRanges:
  {{- toYaml .Values.service.allowedNetworks | nindent 2 }}
{{- end }}
{{- end }}

{{- define "platform.publicationAnnotations" -}}
{{- if eq .Values.service.type "LoadBalancer" }}
{{- with .Values.service.loadBalancerIP }}
metallb.io/loadBalancerIPs: {{ . | quote }}
{{- end }}
{{- end }}
{{- with .Values.service.annotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A certificate of cert-manager for `names` and `addresses`, lists in JSON. */}}
{{- define "platform.certificate" -}}
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  {{- include "platform.metadata" (dict "root" .root) | nindent 2 }}
spec:
  secretName: {{ .root.Values.tls.secretName }}
  # programs that read it once are restarted by the monthly patching, long before the old one ends
  duration: 4320h
  renewBefore: 1440h
  privateKey:
    algorithm: RSA
    encoding: PKCS8
    size: 2048
    rotationPolicy: Always
  usages: [digital signature, key encipherment, server auth]
  dnsNames:
    {{- range fromJsonArray .names }}
    - {{ . | quote }}
    {{- end }}
  {{- with fromJsonArray .addresses }}
  ipAddresses:
    {{- range . }}
    - {{ . | quote }}
    {{- end }}
  {{- end }}
  issuerRef:
    group: cert-manager.io
    kind: {{ .root.Values.tls.certificate.issuer.kind }}
    name: {{ .root.Values.tls.certificate.issuer.name }}
{{- end }}

{{/* The names of its service inside the cluster, as a list in JSON. */}}
{{- define "platform.serviceNames" -}}
{{- $name := include "platform.name" . -}}
{{- $namespace := .Release.Namespace -}}
{{ list $name (printf "%s.%s" $name $namespace) (printf "%s.%s.svc" $name $namespace) (printf "%s.%s.svc.cluster.local" $name $namespace) | toJson }}
{{- end }}

{{/*
Who may connect: `ports` for clients, the networks of the service and `helm test`, `metricsPorts` for who scrapes; lists
in JSON. And to whom the application connects: DNS and what the values say.
*/}}
{{- define "platform.networkPolicy" -}}
{{- if .root.Values.networkPolicy.enabled -}}
{{- $values := .root.Values -}}
{{- $networks := ternary $values.service.allowedNetworks (list) (eq $values.service.type "LoadBalancer") -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "platform.metadata" (dict "root" .root) | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "platform.selector" .root | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - podSelector:
            matchLabels:
              {{- include "platform.testSelector" .root | nindent 14 }}
        {{- with $values.networkPolicy.clients }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- range $networks }}
        - ipBlock:
            cidr: {{ . }}
        {{- end }}
      ports:
        {{- range fromJsonArray .ports }}
        - port: {{ . }}
        {{- end }}
    {{- with fromJsonArray .metricsPorts }}
    - from:
        - podSelector:
            matchLabels:
              {{- include "platform.testSelector" $.root | nindent 14 }}
        {{- with $values.networkPolicy.metricsClients }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        {{- range . }}
        - port: {{ . }}
        {{- end }}
    {{- end }}
  egress:
    {{- include "platform.dns" . | nindent 4 }}
    {{- with $values.networkPolicy.egress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "platform.metadata" (dict "root" .root "suffix" "test") | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "platform.testSelector" .root | nindent 6 }}
  policyTypes: [Ingress, Egress]
  egress:
    {{- include "platform.dns" . | nindent 4 }}
    - to:
        - podSelector:
            matchLabels:
              {{- include "platform.selector" .root | nindent 14 }}
{{- end }}
{{- end }}

{{- define "platform.dns" -}}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: kube-system
      podSelector:
        matchLabels:
          k8s-app: kube-dns
  ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end }}

{{/* A ServiceMonitor for `path` at a port of the release's Services, with `tls` by the authority of its own certificate,
where the cluster knows such things. */}}
{{- define "platform.serviceMonitor" -}}
{{- if and .root.Values.metrics.serviceMonitor.enabled (.root.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/ServiceMonitor") -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  {{- include "platform.metadata" (dict "root" .root) | nindent 2 }}
    {{- with .root.Values.metrics.serviceMonitor.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "platform.instance" .root | nindent 6 }}
      app.kubernetes.io/component: metrics
  namespaceSelector:
    matchNames: [{{ .root.Release.Namespace }}]
  endpoints:
    - port: {{ .port }}
      path: {{ .path }}
      {{- if .tls }}
      scheme: https
      tlsConfig:
        ca:
          secret:
            name: {{ .root.Values.tls.secretName }}
            key: ca.crt
        serverName: {{ include "platform.name" .root }}.{{ .root.Release.Namespace }}.svc
      {{- end }}
      interval: {{ .root.Values.metrics.serviceMonitor.interval }}
      scrapeTimeout: {{ .root.Values.metrics.serviceMonitor.timeout }}
{{- end }}
{{- end }}

{{/* A Service that only Prometheus uses, for `port` and its `name`. */}}
{{- define "platform.metricsService" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "platform.metadata" (dict "root" .root "suffix" "metrics") | nindent 2 }}
    app.kubernetes.io/component: metrics
spec:
  type: ClusterIP
  selector:
    {{- include "platform.selector" .root | nindent 4 }}
  ports:
    - name: {{ .name }}
      port: {{ .port }}
      targetPort: {{ .name }}
{{- end }}

{{/* An Ingress for `port` of the Service. */}}
{{- define "platform.ingress" -}}
{{- if .root.Values.ingress.enabled -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  {{- include "platform.metadata" (dict "root" .root) | nindent 2 }}
  {{- with .root.Values.ingress.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  ingressClassName: {{ .root.Values.ingress.className }}
  tls:
    - hosts: [{{ .root.Values.ingress.host | quote }}]
      secretName: {{ .root.Values.ingress.tlsSecret | quote }}
  rules:
    - host: {{ .root.Values.ingress.host | quote }}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend:
              service:
                name: {{ include "platform.name" .root }}
                port:
                  name: {{ .port }}
{{- end }}
{{- end }}

{{/* The pod of `helm test`: runs a Python `script` with `env`, `mounts` and `volumes`, all three YAML or nothing. */}}
{{- define "platform.testPod" -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ include "platform.name" .root }}-test
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "platform.labels" .root | nindent 4 }}
    app.kubernetes.io/component: test
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  restartPolicy: Never
  activeDeadlineSeconds: 120
  {{- include "platform.account" .root | nindent 2 }}
  {{- include "platform.placement" .root | nindent 2 }}
  securityContext:
    {{- toYaml .root.Values.podSecurityContext | nindent 4 }}
  containers:
    - name: test
      image: {{ include "platform.image" (dict "root" .root "image" .root.Values.toolsImage) }}
      imagePullPolicy: {{ .root.Values.toolsImage.pullPolicy }}
      command: [python3, -c]
      args:
        - |
          {{- .script | nindent 10 }}
      {{- with .env }}
      env:
        {{- . | nindent 8 }}
      {{- end }}
      {{- with .mounts }}
      volumeMounts:
        {{- . | nindent 8 }}
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      resources:
        requests: {cpu: 10m, memory: 32Mi}
        limits: {memory: 64Mi}
  {{- with .volumes }}
  volumes:
    {{- . | nindent 4 }}
  {{- end }}
{{- end }}
