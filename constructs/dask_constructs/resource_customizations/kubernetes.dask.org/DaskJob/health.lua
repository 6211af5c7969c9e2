local conditions = {}
if obj.status ~= nil then
  for _, condition in ipairs(obj.status.conditions or {}) do
    conditions[condition.type] = condition
  end
end

local function is_true(type)
  return conditions[type] ~= nil and conditions[type].status == "True"
end

-- Argo CD asks for the health of an object that is being deleted only if it is a hook, held by a finalizer. Deleting
-- has raised its generation, and the operator does not look at it any more.
local deleted = obj.metadata.deletionTimestamp ~= nil
if deleted and not is_true("Complete") and not is_true("Failed") then
  return { status = "Degraded", message = "Deleted before it had finished" }
end

local health = { status = "Progressing", message = "Waiting for the operator" }
if obj.status == nil or (obj.status.observedGeneration ~= obj.metadata.generation and not deleted) then
  return health
end
local ready = conditions["Ready"]
if ready == nil then
  return health
end

health.message = ready.message
if is_true("Failed") or is_true("Stalled") then
  health.status = "Degraded"
elseif is_true("Complete") then
  health.status = "Healthy"
elseif is_true("Suspended") and ready.status == "True" then
  health.status = "Suspended"
end
if health.status == "Healthy" and conditions["UpToDate"] ~= nil and conditions["UpToDate"].status == "False" then
  health.message = conditions["UpToDate"].message
end
return health
