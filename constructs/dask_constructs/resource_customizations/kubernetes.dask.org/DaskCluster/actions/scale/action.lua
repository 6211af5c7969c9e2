local replicas = tonumber(actionParams["replicas"])
if not replicas then
  error("invalid number: " .. tostring(actionParams["replicas"]), 0)
end

obj.spec.worker.replicas = replicas
return obj
