{{- define "tickbridge.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* The labels of every object. The first two select the pods, and never change. */ -}}
{{- define "tickbridge.labels" -}}
{{ include "tickbridge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tickbridge.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tickbridge.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "tickbridge.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- /* The settings file. With persistence, data_dir defaults to the mounted volume. */ -}}
{{- define "tickbridge.settings" -}}
{{- $data := ternary (dict "data_dir" "/var/lib/tickbridge") (dict) .Values.persistence.enabled -}}
{{- toYaml (merge (dict) .Values.settings $data) -}}
{{- end -}}

{{- define "tickbridge.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* One volume source for each setting whose value is in a Secret. */ -}}
{{- define "tickbridge.secretSources" -}}
{{- range $section, $keys := .Values.secrets }}
{{- range $key, $secret := $keys }}
- secret:
    name: {{ $secret.name }}
    items: [{key: {{ $secret.key | quote }}, path: {{ printf "%s__%s" $section $key }}}]
{{- end }}
{{- end }}
{{- end -}}
