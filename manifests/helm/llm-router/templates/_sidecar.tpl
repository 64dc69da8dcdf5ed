{{/*
What gives a pod the router. Each takes the scope of the application's chart, and reads its values below `llm-router`.
NB: the container is the one of manifests/components/sidecar and of the injection; a test compares them.
*/}}

{{/* Labels of the pod, by which the operator finds it. */}}
{{- define "llm-router.labels" -}}
llm.athena.dev/router: "true"
{{- end }}

{{/* An entry of the pod's initContainers: it is up before the application starts, and ends after it. */}}
{{- define "llm-router.container" -}}
{{- $values := index .Values "llm-router" -}}
- name: llm-router
  image: {{ printf "%s:%s" $values.image.repository $values.image.tag }}
  {{- with $values.image.pullPolicy }}
  imagePullPolicy: {{ . }}
  {{- end }}
  restartPolicy: Always
  envFrom:
    - configMapRef:
        name: llm-router-settings
        optional: true
  {{- if or $values.usage.url $values.env }}
  env:
    {{- with $values.usage.url }}
    - name: LLM_ROUTER_USAGE_URL
      value: {{ . }}
    - name: LLM_ROUTER_USAGE_TOKEN_FILE
      value: /var/run/secrets/kubernetes.io/serviceaccount/token
    - name: LLM_ROUTER_USAGE_SPOOL
      value: /var/lib/llm-router
    {{- end }}
    {{- range $name, $value := $values.env }}
    - name: {{ $name }}
      value: {{ $value | toString | quote }}
    {{- end }}
  {{- end }}
  ports:
    - name: management
      containerPort: 8081
  startupProbe:
    httpGet:
      path: /healthz
      port: management
    periodSeconds: 1
    failureThreshold: 60
  livenessProbe:
    httpGet:
      path: /healthz
      port: management
    periodSeconds: 10
    timeoutSeconds: 5
  readinessProbe:
    httpGet:
      path: /readyz
      port: management
    periodSeconds: 5
    timeoutSeconds: 5
  resources:
    {{- toYaml $values.resources | nindent 4 }}
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    runAsNonRoot: true
    capabilities:
      drop: [ALL]
    seccompProfile:
      type: RuntimeDefault
  volumeMounts:
    - name: llm-router-config
      mountPath: /etc/llm-router
      readOnly: true
    - name: llm-router-credentials
      mountPath: /etc/llm-router-credentials
      readOnly: true
    {{- if $values.usage.url }}
    - name: llm-router-token
      mountPath: /var/run/secrets/kubernetes.io/serviceaccount
      readOnly: true
    - name: llm-router-spool
      mountPath: /var/lib/llm-router
    {{- end }}
{{- end }}

{{/* Entries of the pod's volumes. NB: a configuration that is not there yet holds no pod up. */}}
{{- define "llm-router.volumes" -}}
{{- $values := index .Values "llm-router" -}}
- name: llm-router-config
  configMap:
    name: llm-router-config
    optional: true
- name: llm-router-credentials
  secret:
    secretName: llm-router-credentials
    optional: true
{{- if $values.usage.url }}
- name: llm-router-token
  projected:
    sources:
      - serviceAccountToken:
          path: token
- name: llm-router-spool
  emptyDir:
    sizeLimit: 128Mi
{{- end }}
{{- end }}
