-- A new run for each new runId. The generation grows with every change, so this one was never used before; and asking
-- twice for the same run is asking once.
obj.spec.runId = "generation-" .. tostring(obj.metadata.generation)
return obj
