local actions = {}

local finished = false
if obj.status ~= nil and obj.status.observedGeneration == obj.metadata.generation then
  for _, condition in ipairs(obj.status.conditions or {}) do
    if (condition.type == "Complete" or condition.type == "Failed") and condition.status == "True" then
      finished = true
    end
  end
end
local suspended = obj.spec.suspend == true

actions["suspend"] = {
  ["iconClass"] = "fa fa-fw fa-pause-circle",
  ["disabled"] = finished or suspended,
}

actions["resume"] = {
  ["iconClass"] = "fa fa-fw fa-play-circle",
  ["disabled"] = not suspended,
}

actions["rerun"] = {
  ["displayName"] = "Run Again",
  ["iconClass"] = "fa fa-fw fa-redo",
  ["disabled"] = not finished,
}

return actions
