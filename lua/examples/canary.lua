-- Sends a share of the sources to a new version. A source always goes to the same one:
--     [canary]
--     type    = "lua"
--     path    = "lua/examples/canary.lua"
--     bind    = "tcp:*4:8000"
--     stable  = "tcp:10.0.0.1:80"
--     canary  = "tcp:10.0.0.2:80"
--     percent = 5
local connpipe = require "connpipe"
local config = connpipe.config

-- 0 to 99, evenly, the same for the same text.
local function bucket(text)
	local hash = 0
	for i = 1, #text do
		hash = (hash * 257 + text:byte(i)) % 1000003
	end
	return hash * 7919 % 1000003 % 100 -- spreads neighbours
end

connpipe.router {
	bind = { config.bind },
	route = function(request)
		if bucket(request.peer.addr or "local") < config.percent then
			return { config.canary, config.stable } -- should the new one not answer, the old one does
		end
		return config.stable
	end,
}
