{{/* Names that NiFi answers to: that of people, those of its Service, and its address; a list in JSON. */}}
{{- define "nifi.names" -}}
{{ prepend (include "platform.serviceNames" . | fromJsonArray) .Values.host | toJson }}
{{- end }}

{{- define "nifi.addresses" -}}
{{- $address := ternary .Values.service.loadBalancerIP "" (eq .Values.service.type "LoadBalancer") -}}
{{ ternary (list $address) (list) (ne $address "") | toJson }}
{{- end }}

{{/* The lines of nifi.properties that differ from the image's; secrets come from the Secret. */}}
{{- define "nifi.properties" -}}
{{- $home := "/opt/nifi/nifi-current" -}}
{{- $oidc := .Values.auth.oidc -}}
{{- $lines := dict
  "nifi.flow.configuration.file" (printf "%s/persistent/flow.json.gz" $home)
  "nifi.flow.configuration.archive.dir" (printf "%s/persistent/archive/" $home)
  "nifi.flow.configuration.archive.max.storage" "100 MB"
  "nifi.nar.library.autoload.directory" "./nar_extensions"
  "nifi.python.extensions.source.directory.default" "./python_extensions"
  "nifi.python.working.directory" "./work/python"
  "nifi.asset.manager.properties.directory" "./persistent/assets"
  "nifi.nar.persistence.provider.properties.directory" "./persistent/nar_repository"
  "nifi.content.repository.archive.max.usage.percentage" .Values.repositories.contentArchiveMaxUsage
  "nifi.content.repository.archive.max.retention.period" .Values.repositories.contentArchiveMaxAge
  "nifi.provenance.repository.max.storage.size" .Values.repositories.provenanceMaxSize
  "nifi.provenance.repository.max.storage.time" .Values.repositories.provenanceMaxAge
  "nifi.security.keystoreType" "PEM"
  "nifi.security.keystore" ""
  "nifi.security.keystorePasswd" ""
  "nifi.security.keyPasswd" ""
  "nifi.security.keystore.certificate" "/etc/nifi/tls/tls.crt"
  "nifi.security.keystore.privateKey" "/etc/nifi/tls/tls.key"
  "nifi.security.truststoreType" "PEM"
  "nifi.security.truststore" ""
  "nifi.security.truststorePasswd" ""
  "nifi.security.truststore.certificate" "/etc/nifi/tls/ca.crt"
  "nifi.security.autoreload.enabled" "true"
  "nifi.security.autoreload.interval" "5 mins"
-}}
{{- if eq .Values.auth.mode "oidc" -}}
{{- $lines = merge $lines (dict
  "nifi.security.user.authorizer" "managed-authorizer"
  "nifi.security.user.login.identity.provider" ""
  "nifi.security.user.oidc.discovery.url" (required "auth.oidc.discoveryUrl: say where the provider describes itself" $oidc.discoveryUrl)
  "nifi.security.user.oidc.claim.identifying.user" $oidc.claim
) -}}
{{- else -}}
{{- $lines = merge $lines (dict
  "nifi.security.user.authorizer" "single-user-authorizer"
  "nifi.security.user.login.identity.provider" "single-user-provider"
) -}}
{{- end -}}
{{- $lines = mergeOverwrite $lines .Values.properties -}}
{{- range $key, $value := $lines }}
{{ $key }}={{ $value }}
{{- end }}
{{- end }}

{{/* Who may do what with OIDC: kept in files on the volume, edited in NiFi itself. */}}
{{- define "nifi.authorizers" -}}
{{- $admin := required "auth.oidc.admin: name the user who may do everything at first" .Values.auth.oidc.admin -}}
<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<authorizers>
    <userGroupProvider>
        <identifier>file-user-group-provider</identifier>
        <class>org.apache.nifi.authorization.FileUserGroupProvider</class>
        <property name="Users File">./persistent/users.xml</property>
        <property name="Initial User Identity 1">{{ $admin | html }}</property>
    </userGroupProvider>
    <accessPolicyProvider>
        <identifier>file-access-policy-provider</identifier>
        <class>org.apache.nifi.authorization.FileAccessPolicyProvider</class>
        <property name="User Group Provider">file-user-group-provider</property>
        <property name="Authorizations File">./persistent/authorizations.xml</property>
        <property name="Initial Admin Identity">{{ $admin | html }}</property>
    </accessPolicyProvider>
    <authorizer>
        <identifier>managed-authorizer</identifier>
        <class>org.apache.nifi.authorization.StandardManagedAuthorizer</class>
        <property name="Access Policy Provider">file-access-policy-provider</property>
    </authorizer>
</authorizers>
{{- end }}

{{/* Whether the exporter runs: it can log in only with a password. */}}
{{- define "nifi.exporter" -}}
{{ if and .Values.exporter.enabled (eq .Values.auth.mode "single-user") }}true{{ end }}
{{- end }}

{{/* Folders on the volume, and where NiFi has them in its home. */}}
{{- define "nifi.volumeMounts" -}}
{{- range list "content_repository" "database_repository" "flowfile_repository" "nar_extensions" "persistent" "provenance_repository" "python_extensions" "state" }}
- name: data
  mountPath: /opt/nifi/nifi-current/{{ . }}
  subPath: {{ . }}
{{- end }}
{{- end }}
