{{- define "serval.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- /* Start of all names. Cut so that the longest suffix fits 63 characters. */ -}}
{{- define "serval.fullname" -}}
{{- $name := include "serval.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "serval.operatorName" -}}
{{- include "serval.fullname" . }}-operator
{{- end }}

{{- define "serval.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "serval.operatorName" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "serval.selectorLabels" -}}
app.kubernetes.io/name: {{ include "serval.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "serval.labels" -}}
{{ include "serval.selectorLabels" . }}
app.kubernetes.io/part-of: serval
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "serval.cacheName" -}}
{{- include "serval.fullname" . }}-fetch-cache
{{- end }}

{{- define "serval.cacheLabels" -}}
{{- include "serval.labels" . | replace "component: operator" "component: fetch-cache" }}
{{- end }}

{{- define "serval.cacheSelectorLabels" -}}
{{- include "serval.selectorLabels" . | replace "component: operator" "component: fetch-cache" }}
{{- end }}

{{- /* Address of the cache of models; empty without one. */ -}}
{{- define "serval.cacheUrl" -}}
{{- with .Values.fetch.cache }}
{{- if .url }}
{{- .url }}
{{- else if .enabled }}
{{- printf "http://%s.%s:8600" (include "serval.cacheName" $) $.Release.Namespace }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Reference of an image: dict "image" (registry, repository, tag, digest), "registry", "version". */ -}}
{{- define "serval.imageRef" -}}
{{- $registry := default .registry .image.registry }}
{{- $path := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") }}
{{- $tag := ternary "" (default .version .image.tag) (and (empty .image.tag) (not (empty .image.digest))) }}
{{- $path }}{{ with $tag }}:{{ . }}{{ end }}{{ with .image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "serval.operatorImage" -}}
{{- include "serval.imageRef" (dict "image" .Values.image "registry" "" "version" .Chart.AppVersion) }}
{{- end }}

{{- define "serval.serverImage" -}}
{{- include "serval.imageRef" (dict "image" .Values.serverImage "registry" .Values.image.registry "version" .Chart.AppVersion) }}
{{- end }}

{{- define "serval.converterImage" -}}
{{- include "serval.imageRef" (dict "image" .Values.converterImage "registry" .Values.image.registry "version" .Chart.AppVersion) }}
{{- end }}

{{- /* The operator's configuration file. Maps of the values become lists, sorted by name. */ -}}
{{- define "serval.configuration" -}}
{{- $server := include "serval.serverImage" . }}
{{- $runtimes := list }}
{{- range $name, $runtime := .Values.runtimes }}
  {{- $images := dict }}
  {{- range $profile, $image := $runtime.images }}
    {{- if not (or (eq $profile "default") (hasKey $.Values.profiles $profile)) }}
      {{- fail (printf "runtimes.%s.images.%s: there is no profile of this name" $name $profile) }}
    {{- end }}
    {{- $_ := set $images $profile (ternary (default $server $image) $image (eq $profile "default")) }}
  {{- end }}
  {{- $policy := default $.Values.serverImage.pullPolicy $runtime.imagePullPolicy }}
  {{- $runtimes = append $runtimes (merge (dict "name" $name "images" $images "imagePullPolicy" $policy) $runtime) }}
{{- end }}
{{- $profiles := list }}
{{- range $name, $profile := .Values.profiles }}
  {{- $profiles = append $profiles (merge (dict "name" $name) $profile) }}
{{- end }}
{{- if not (hasKey .Values.runtimes .Values.defaultRuntime) }}
  {{- fail (printf "defaultRuntime: there is no runtime %q" .Values.defaultRuntime) }}
{{- end }}
{{- $fetch := dict
  "image" (default (include "serval.operatorImage" .) .Values.fetch.image)
  "imagePullPolicy" (default .Values.image.pullPolicy .Values.fetch.imagePullPolicy)
  "maxBytes" .Values.fetch.maxBytes
  "maxEntries" .Values.fetch.maxEntries
  "resources" .Values.fetch.resources
  "cache" (dict "url" (include "serval.cacheUrl" .)) }}
{{- $configuration := dict
  "apiVersion" "config.serval.dev/v1alpha1"
  "kind" "OperatorConfiguration"
  "fetch" $fetch
  "defaults" (dict "runtime" .Values.defaultRuntime)
  "scheduling" .Values.scheduling
  "runtimes" $runtimes
  "profiles" $profiles }}
{{- with .Values.front }}
  {{- if .enabled }}
    {{- $_ := set $configuration "front" (dict
      "image" (default $server .image)
      "imagePullPolicy" (default $.Values.serverImage.pullPolicy .imagePullPolicy)
      "resources" .resources) }}
  {{- end }}
{{- end }}
{{- with .Values.conversion }}
  {{- $_ := set $configuration "conversion" (dict
    "image" (include "serval.converterImage" $)
    "imagePullPolicy" $.Values.converterImage.pullPolicy
    "pushImage" (default (include "serval.operatorImage" $) .pushImage)
    "pushImagePullPolicy" (default $.Values.image.pullPolicy .pushImagePullPolicy)
    "resources" .resources
    "artifacts" .artifacts) }}
{{- end }}
{{- toYaml $configuration }}
{{- end }}

{{- /* Kinds that this release installs, as a map of their names to the entries of files/kinds.yaml. */ -}}
{{- define "serval.kinds" -}}
{{- $known := .Files.Get "files/kinds.yaml" | fromYaml }}
{{- $chosen := dict }}
{{- range .Values.kinds }}
  {{- if not (hasKey $known .) }}
    {{- fail (printf "kinds: this chart has no kind %q; it has %s" . (keys $known | sortAlpha | join ", ")) }}
  {{- end }}
  {{- $_ := set $chosen . (get $known .) }}
{{- end }}
{{- toYaml (default $known $chosen) }}
{{- end }}

{{- /* Rules for the objects of the kinds and their children. Their reasons are in the files. */ -}}
{{- define "serval.rules" -}}
{{- range include "serval.kinds" . | fromYaml }}
{{- $.Files.Get (printf "files/rbac/%s.yaml" .plural) }}
{{- end }}
{{- .Files.Get "files/rbac/operator.yaml" }}
{{- end }}

{{- /* Who has devices, and where more can come from. */ -}}
{{- define "serval.capacityRules" -}}
{{- .Files.Get "files/rbac/operator-capacity.yaml" }}
{{- end }}

{{- /* The state of the cluster autoscaler's node groups. */ -}}
{{- define "serval.autoscalerRules" -}}
{{- .Files.Get "files/rbac/operator-autoscaler.yaml" }}
{{- end }}

{{- /* The Lease of the operator that works. */ -}}
{{- define "serval.leaseRules" -}}
{{- .Files.Get "files/rbac/operator-lease.yaml" | replace "$(SERVAL_LEASE_NAME)" (include "serval.operatorName" .) }}
{{- end }}

{{- /* A role with `rules` and its binding to the operator; without `namespace`, for the whole cluster. */ -}}
{{- define "serval.grant" -}}
{{- $kind := empty .namespace | ternary "ClusterRole" "Role" }}
{{- range $object := list $kind (printf "%sBinding" $kind) }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $object }}
metadata:
  name: {{ $.name }}
  {{- with $.namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "serval.labels" $.root | nindent 4 }}
{{- if eq $object $kind }}
rules:
  {{- $.rules | nindent 2 }}
{{- else }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $kind }}
  name: {{ $.name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "serval.serviceAccountName" $.root }}
    namespace: {{ $.root.Release.Namespace }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Not empty where the operator may see all nodes, and count the devices in use. */ -}}
{{- define "serval.seesCapacity" -}}
{{- $asked := .Values.rbac.capacity }}
{{- if or (eq $asked "always") (and (eq $asked "auto") (empty .Values.watchNamespaces)) -}}
true
{{- end }}
{{- end }}

{{- /* Not empty where a ServiceMonitor is wanted and the cluster knows the kind. */ -}}
{{- define "serval.rendersServiceMonitor" -}}
{{- $monitor := .Values.metrics.serviceMonitor }}
{{- if and $monitor.enabled (or $monitor.force (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/ServiceMonitor")) -}}
true
{{- end }}
{{- end }}
