{{- define "tickbridge.name" -}}
{{- .Values.nameOverride | default .Chart.Name | replace "." "-" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* A Service may have no dot in its name, and a release may. */ -}}
{{- define "tickbridge.fullname" -}}
{{- $name := include "tickbridge.name" . -}}
{{- $default := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $default | replace "." "-" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* The name of all objects with a suffix, in 63 characters. Takes (list $ "-suffix"). */ -}}
{{- define "tickbridge.nameWith" -}}
{{- $suffix := last . -}}
{{- include "tickbridge.fullname" (first .) | trunc (int (sub 63 (len $suffix))) | trimSuffix "-" -}}{{- $suffix -}}
{{- end -}}

{{- /* These two labels select the pod of the bridge, and never change. */ -}}
{{- define "tickbridge.selector" -}}
app.kubernetes.io/name: {{ include "tickbridge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* The pods of Helm's hooks: the Service must not select them. */ -}}
{{- define "tickbridge.hookSelector" -}}
app.kubernetes.io/name: {{ include "tickbridge.nameOfHooks" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tickbridge.nameOfHooks" -}}
{{- include "tickbridge.name" . | trunc 58 | trimSuffix "-" -}}-hook
{{- end -}}

{{- /*
The metadata of an object. Takes a dict: `root`, and where they are needed `name`, `namespace`,
`selector`, and more `labels` and `annotations`. The labels that others select by are never replaced.
*/ -}}
{{- define "tickbridge.metadata" -}}
{{- $root := .root -}}
{{- $own := dict
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "app.kubernetes.io/managed-by" $root.Release.Service
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
{{- $selector := .selector | default (include "tickbridge.selector" $root) | fromYaml -}}
name: {{ .name | default (include "tickbridge.fullname" $root) }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- toYaml (merge $selector $own (deepCopy (.labels | default dict)) $root.Values.commonLabels) | nindent 2 }}
{{- with merge (deepCopy (.annotations | default dict)) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "tickbridge.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "tickbridge.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- /* The settings file. With persistence, the claim decides where records wait and how many. */ -}}
{{- define "tickbridge.settings" -}}
{{- $disk := dict -}}
{{- if .Values.persistence.enabled -}}
{{- $disk = dict "data_dir" "/var/lib/tickbridge" -}}
{{- if not .Values.persistence.existingClaim -}}
{{- $_ := set $disk "spill_max_bytes" (include "tickbridge.spillBytes" . | int64) -}}
{{- end -}}
{{- end -}}
{{- toYaml (merge (dict) .Values.settings $disk) -}}
{{- end -}}

{{- define "tickbridge.image" -}}
{{- $image := .Values.image -}}
{{- $registry := dig "imageRegistry" "" .Values.global | default $image.registry -}}
{{- with $registry -}}{{ . }}/{{- end -}}
{{- $image.repository -}}
{{- if $image.digest -}}
@{{ $image.digest }}
{{- else -}}
:{{ $image.tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* What every pod of the chart has: rights, and where it may run. */ -}}
{{- define "tickbridge.podSpec" -}}
{{- $values := .Values -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- toYaml $values.podSecurityContext | nindent 2 }}
{{- with concat (dig "imagePullSecrets" list $values.global) $values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $key := list "hostAliases" "dnsPolicy" "dnsConfig" "runtimeClassName" "priorityClassName" "nodeSelector" "tolerations" "affinity" }}
{{- with get $values $key }}
{{ $key }}:{{ if kindIs "string" . }} {{ . }}{{ else }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* What every container of the chart has: the image, and its rights. */ -}}
{{- define "tickbridge.program" -}}
image: {{ include "tickbridge.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end -}}

{{- /* What the containers have that read the settings: the environment too. Takes (list $ isNamed):
with isNamed the name of the pod is that of the bridge in the group. */ -}}
{{- define "tickbridge.container" -}}
{{- $values := (first .).Values -}}
{{ include "tickbridge.program" (first .) }}
env:
  - name: TICKBRIDGE_CONFIG
    value: /etc/tickbridge/tickbridge.yaml
  {{- if last . }}
  - name: TICKBRIDGE_CLUSTER__INSTANCE_ID
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  {{- end }}
  {{- if $values.secrets }}
  - name: TICKBRIDGE_SECRETS_DIR
    value: /run/secrets/tickbridge
  {{- end }}
  {{- with $values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Not empty if the bridges are a group, which share the shards: `Cluster.has_group`. */ -}}
{{- define "tickbridge.isGroup" -}}
{{- $cluster := .Values.settings.cluster | default dict -}}
{{- if or (gt (int $cluster.standby) 0) (gt (int $cluster.shards) 1) -}}true{{- end -}}
{{- end -}}

{{- define "tickbridge.kind" -}}
{{- include "tickbridge.isGroup" . | eq "true" | ternary "StatefulSet" "Deployment" -}}
{{- end -}}

{{- /* Owner and standby on two nodes and in two zones, if there are any. */ -}}
{{- define "tickbridge.spread" -}}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- {maxSkew: 1, topologyKey: {{ $key }}, whenUnsatisfiable: ScheduleAnyway}
{{- end }}
{{- end -}}

{{- define "tickbridge.claim" -}}
{{- with .Values.persistence -}}
accessModes:
  {{- toYaml .accessModes | nindent 2 }}
{{- with .storageClass }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end }}
{{- end -}}

{{- define "tickbridge.settingsMounts" -}}
- name: settings
  mountPath: /etc/tickbridge
  readOnly: true
{{- if .Values.secrets }}
- name: secrets
  mountPath: /run/secrets/tickbridge
  readOnly: true
{{- end }}
{{- end -}}

{{- /* The settings from a ConfigMap, and a file for each setting whose value is in a Secret. Takes
(list $ "name of the ConfigMap"). */ -}}
{{- define "tickbridge.settingsVolumes" -}}
- name: settings
  configMap:
    name: {{ last . }}
{{- with (first .).Values.secrets }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range $section, $keys := . }}
      {{- range $key, $secret := $keys }}
      - secret:
          name: {{ $secret.name }}
          items: [{key: {{ $secret.key | quote }}, path: {{ printf "%s__%s" $section $key }}}]
      {{- end }}
      {{- end }}
{{- end }}
{{- end -}}

{{- /* How Prometheus scrapes the bridge. Takes serviceMonitor or podMonitor. */ -}}
{{- define "tickbridge.endpoint" -}}
- port: http
  path: /metrics
  interval: {{ .interval }}
  scrapeTimeout: {{ .scrapeTimeout }}
  {{- with .relabelings }}
  relabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- /* What such a monitor selects. Takes (list $ namespace). */ -}}
{{- define "tickbridge.monitored" -}}
selector:
  matchLabels:
    {{- include "tickbridge.selector" (first .) | nindent 4 }}
{{- with last . }}
namespaceSelector:
  matchNames: [{{ (first $).Release.Namespace }}]
{{- end }}
{{- end -}}
