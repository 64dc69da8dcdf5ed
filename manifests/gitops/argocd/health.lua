-- The health of an LLMBackend in Argo CD. docs/gitops.md has the table of every state; a test compares the two.
-- Argo CD itself says Progressing of what is being deleted.
local health = {status = "Progressing", message = "The operator has not seen it yet."}
local status = obj.status
if status == nil or status.conditions == nil then
  return health
end

local found = {}
for _, condition in ipairs(status.conditions) do
  found[condition.type] = condition
end
local function is(kind, value)
  return found[kind] ~= nil and found[kind].status == value
end

-- NB: before the generations are compared, since a paused resource keeps the one that it had.
if is("Paused", "True") then
  return {status = "Suspended", message = found.Paused.message}
end
if status.observedGeneration ~= obj.metadata.generation then
  health.message = "The operator has not seen this generation yet."
  return health
end
if is("Stalled", "True") then
  return {status = "Degraded", message = found.Stalled.message}
end

local ready = found.Ready
if ready == nil then
  return health
end
if ready.status ~= "True" then
  -- What time alone does not mend. The rest may be on its way, such as a Secret that comes a moment later.
  local lasting = {ModelNameConflict = true, SecretNotAllowed = true, TooLarge = true, NotOwned = true}
  health.status = lasting[ready.reason] and "Degraded" or "Progressing"
  health.message = ready.message
  return health
end
if obj.spec.enabled == false then
  return {status = "Suspended", message = "Disabled: it has no route."}
end

-- NB: no host that sleeps, no router and no database makes it anything but healthy; a sync would fail for that.
health = {status = "Healthy", message = ready.message}
for _, kind in ipairs({"Available", "Programmed", "DatabaseSynced"}) do
  if is(kind, "False") then
    health.message = found[kind].message
    break
  end
end
return health
