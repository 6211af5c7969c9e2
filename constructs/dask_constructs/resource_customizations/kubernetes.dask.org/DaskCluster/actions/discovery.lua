local actions = {}

-- With OnDelete, whoever deletes the Pods decides when workers restart.
local strategy = obj.spec.worker.updateStrategy
local on_delete = strategy ~= nil and strategy.type == "OnDelete"

local suspended = obj.spec.suspend == true

actions["restart"] = {
  ["displayName"] = "Restart Workers",
  ["iconClass"] = "fa fa-fw fa-redo",
  ["disabled"] = on_delete or suspended,
}

actions["suspend"] = {
  ["iconClass"] = "fa fa-fw fa-pause-circle",
  ["disabled"] = suspended,
}

actions["resume"] = {
  ["iconClass"] = "fa fa-fw fa-play-circle",
  ["disabled"] = not suspended,
}

-- The default worker group.
actions["scale"] = {
  ["iconClass"] = "fa fa-fw fa-plus-circle",
  ["params"] = { { ["name"] = "replicas" } },
}

return actions
