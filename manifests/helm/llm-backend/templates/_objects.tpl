{{/*
The labels that Helm asks for, beside those that an object has in every form of an install. NB: never in a pod template
or a selector: they change with each version of the chart.
*/}}
{{- define "llm-backend.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/*
The documents of a file that kustomize applies too (manifests/helm/files.py copies it), in the release's namespace and
with the release's service accounts.
  root: the chart's scope
  file: below files/
  namespace: of documents that name none (optional)
  without: what to leave out, as KIND/NAME (optional)
  labels: more of them (optional)
  replace: what it has instead of some of its texts (optional)
*/}}
{{- define "llm-backend.shipped" -}}
{{- $root := .root }}
{{- $namespace := .namespace }}
{{- $without := .without | default list }}
{{- $labels := .labels | default dict }}
{{- $replace := merge (dict "namespace: llm-backend-system" (printf "namespace: %s" (quote .root.Release.Namespace))) (.replace | default dict) }}
{{- $accounts := include "llm-backend.accounts" $root | fromYaml }}
{{- $text := $root.Files.Get (printf "files/%s" .file) | required (printf "files/%s is not in the chart" .file) }}
{{- range splitList "\n---\n" $text }}
{{- $object := fromYaml . }}
{{- $metadata := $object.metadata }}
{{- $_ := set $metadata "labels" (merge (include "llm-backend.labels" $root | fromYaml) $labels ($metadata.labels | default dict)) }}
{{- if $namespace }}
{{- $_ := set $metadata "namespace" $namespace }}
{{- end }}
{{- range $object.subjects }}
{{- if and (eq .kind "ServiceAccount") (hasKey $accounts .name) }}
{{- $_ := set . "name" (get $accounts .name).name }}
{{- else if and $namespace (eq .kind "Group") }}
{{- $_ := set . "name" (printf "system:serviceaccounts:%s" $namespace) }}
{{- end }}
{{- end }}
{{- /* NB: the release's namespace is there before the release; Helm keeps its record in it. */}}
{{- $here := and (ne $object.kind "Namespace") (not (has (printf "%s/%s" $object.kind $metadata.name) $without)) }}
{{- if and (eq $object.kind "ServiceAccount") (hasKey $accounts $metadata.name) }}
{{- $account := get $accounts $metadata.name }}
{{- $here = $account.create }}
{{- $_ := set $metadata "name" $account.name }}
{{- with $account.annotations }}
{{- $_ := set $metadata "annotations" . }}
{{- end }}
{{- end }}
{{- if $here }}
---
{{- $out := toYaml $object }}
{{- range $from, $to := $replace }}
{{- $out = replace $from $to $out }}
{{- end }}
{{ $out }}
{{- end }}
{{- end }}
{{- end }}

{{/* The service accounts by their names in manifests/. */}}
{{- define "llm-backend.accounts" -}}
llm-backend-operator: {{ toJson .Values.operator.serviceAccount }}
llm-backend-admin: {{ toJson .Values.admin.serviceAccount }}
{{- end }}
