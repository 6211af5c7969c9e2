local os = require("os")

local worker = obj.spec.worker
if worker.metadata == nil then
  worker.metadata = {}
end
if worker.metadata.annotations == nil then
  worker.metadata.annotations = {}
end
worker.metadata.annotations["kubectl.kubernetes.io/restartedAt"] = os.date("!%Y-%m-%dT%XZ")
return obj
