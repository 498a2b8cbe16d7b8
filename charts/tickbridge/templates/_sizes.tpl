{{- /* Sizes that are compared with each other, or that follow from each other. All are bytes. */ -}}

{{- /*
Read a size of Kubernetes (512Mi, 1G) or of the settings (256MiB, 1048576). The result is empty if it
is neither, and then nothing is compared.
*/ -}}
{{- define "tickbridge.bytes" -}}
{{- if kindIs "string" . -}}
{{- $units := dict "" 1 "b" 1
  "k" 1000 "kb" 1000 "ki" 1024 "kib" 1024
  "m" 1000000 "mb" 1000000 "mi" 1048576 "mib" 1048576
  "g" 1000000000 "gb" 1000000000 "gi" 1073741824 "gib" 1073741824
  "t" 1000000000000 "tb" 1000000000000 "ti" 1099511627776 "tib" 1099511627776 -}}
{{- $number := regexFind "^[0-9]+(\\.[0-9]+)?" . -}}
{{- $unit := trimPrefix $number . | trim | lower -}}
{{- if and $number (hasKey $units $unit) -}}
{{- mulf $number (get $units $unit) | int64 -}}
{{- end -}}
{{- else -}}
{{- int64 . -}}
{{- end -}}
{{- end -}}

{{- define "tickbridge.mebibytes" -}}
{{- divf . 1048576 | ceil | int64 -}}Mi
{{- end -}}

{{- define "tickbridge.outboxBytes" -}}
{{- dig "kafka" "outbox_max_bytes" "256MiB" (deepCopy .Values.settings) | include "tickbridge.bytes" -}}
{{- end -}}

{{- /* A fifth of the claim is left for the file system, and for what is written while it is full. */ -}}
{{- define "tickbridge.spillBytes" -}}
{{- with .Values.settings.spill_max_bytes -}}
{{- include "tickbridge.bytes" . -}}
{{- else -}}
{{- mulf (include "tickbridge.bytes" .Values.persistence.size) 0.8 | int64 -}}
{{- end -}}
{{- end -}}

{{- /* The least memory that the bridge starts with; bridge/settings/room.py has the same 80 MiB. */ -}}
{{- define "tickbridge.leastMemoryBytes" -}}
{{- add (include "tickbridge.outboxBytes" .) 83886080 -}}
{{- end -}}

{{- /*
Requests and limits: those of the values, and what is missing there. A full outbox takes its own size;
while it is written to Kafka after an outage, its batches take up to as much again
(docs/guides/scale.md).
*/ -}}
{{- define "tickbridge.resources" -}}
{{- $outbox := include "tickbridge.outboxBytes" . | int64 -}}
{{- $given := deepCopy .Values.resources -}}
{{- $request := add $outbox 268435456 -}}
{{- $limit := add (mul 2 $outbox) 536870912 -}}
{{- $givenRequest := dig "requests" "memory" "" $given | include "tickbridge.bytes" | int64 -}}
{{- $givenLimit := dig "limits" "memory" "" $given | include "tickbridge.bytes" | int64 -}}
{{- if $givenLimit -}}{{- $request = min $request $givenLimit -}}{{- end -}}
{{- $limit = max $limit $givenRequest -}}
{{- $derived := dict
  "requests" (dict "cpu" "250m" "memory" (include "tickbridge.mebibytes" $request))
  "limits" (dict "memory" (include "tickbridge.mebibytes" $limit)) -}}
{{- toYaml (merge $given $derived) -}}
{{- end -}}
