-- Addresses by name, `service:NAME` and `service:NAME/INSTANCE`, from one list in the configuration:
--     [names]
--     type  = "lua"
--     path  = "lua/examples/service.lua"
--     token = "let me in"                                   # if it is there, clients say it in their first line
--     [names.services.orders]
--     listen    = "tcp:*4:7000"
--     instances = ["tcp:10.0.0.1:80", "tcp:10.0.0.2:80"]
-- In routes: "service:orders" = "service:orders/2"
local connpipe = require "connpipe"
local config = connpipe.config

local function find(name)
	local service = config.services and config.services[name]
	if not service then return nil, "no service " .. name end
	return service
end

connpipe.connector {
	aliases = { "service" },
	fields = { "name", "instance:u16?" },

	parse = function(text)
		local name, slash, instance = text:match("^([^/]+)(/?)(%d*)$")
		if not name or (slash == "/") ~= (instance ~= "") then
			return nil, "expected NAME or NAME/INSTANCE", (text:find("/", 1, true) or #text) + 1
		end
		return { name = connpipe.unescape(name), instance = tonumber(instance) }
	end,
	format = function(fields)
		return connpipe.escape(fields.name) .. (fields.instance and "/" .. fields.instance or "")
	end,

	connect = function(address)
		local service, err = find(address.name)
		if not service then return nil, err end
		local instance = address.instance or math.random(#service.instances)
		local target = service.instances[instance]
		if not target then return nil, ("%s has no instance %d"):format(address.name, instance) end
		return target
	end,

	bind = function(address)
		local service, err = find(address.name)
		if not service then return nil, err end
		return service.listen
	end,
	accept = function(stream)
		if config.token and stream:read_line() ~= config.token then return nil, "wrong token" end
		return stream
	end,
}
