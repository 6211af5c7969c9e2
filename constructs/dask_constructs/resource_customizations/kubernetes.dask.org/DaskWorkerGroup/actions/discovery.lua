local actions = {}

-- With OnDelete, whoever deletes the Pods decides when workers restart.
local strategy = obj.spec.worker.updateStrategy
local on_delete = strategy ~= nil and strategy.type == "OnDelete"

actions["restart"] = {
  ["displayName"] = "Restart Workers",
  ["iconClass"] = "fa fa-fw fa-redo",
  ["disabled"] = on_delete,
}

actions["scale"] = {
  ["iconClass"] = "fa fa-fw fa-plus-circle",
  ["params"] = { { ["name"] = "replicas" } },
}

return actions
