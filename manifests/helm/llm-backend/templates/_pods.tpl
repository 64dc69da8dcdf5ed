{{/*
What the pods of the chart have in common. Each takes a dict:
  root: the chart's scope
  component: the value of the label app.kubernetes.io/component
  annotations: of the pod, beside those of the values (optional)
  tls: a Secret with a certificate to mount (optional)
*/}}

{{/* An image with its tag; `image` are the values. */}}
{{- define "llm-backend.image" -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .root.Chart.AppVersion) }}
{{- end }}

{{- define "llm-backend.selector" -}}
app.kubernetes.io/name: llm-backend
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Metadata of a pod template. */}}
{{- define "llm-backend.pod-metadata" -}}
{{- $values := .root.Values -}}
{{- with merge (.annotations | default dict) $values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
labels:
  {{- include "llm-backend.selector" . | nindent 2 }}
  {{- with $values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Of a pod's spec: where it may run, and as whom. */}}
{{- define "llm-backend.pod" -}}
{{- $values := .root.Values -}}
{{- with $values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
volumes:
  - name: tmp
    emptyDir: {}
  {{- with .tls }}
  - name: tls
    secret:
      secretName: {{ . }}
  {{- end }}
  {{- with $values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Of a container: the image and what it may not do. */}}
{{- define "llm-backend.container" -}}
{{- $values := .root.Values -}}
image: {{ include "llm-backend.image" (dict "root" .root "image" $values.image) }}
{{- with $values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
volumeMounts:
  - name: tmp
    mountPath: /tmp
  {{- if .tls }}
  - name: tls
    mountPath: /etc/llm-backend-tls
    readOnly: true
  {{- end }}
  {{- with $values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Of a container's environment: the database, and what the values add. */}}
{{- define "llm-backend.env" -}}
- name: LLMB_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.database.existingSecret }}
      key: {{ .Values.database.key }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The settings of operator and admin API. */}}
{{- define "llm-backend.settings" -}}
{{- range $name, $value := .Values.settings }}
{{ $name }}: {{ $value | toString | quote }}
{{- end }}
{{- with .Values.namespaces }}
LLMB_NAMESPACES: {{ join "," . | quote }}
{{- end }}
{{- end }}
