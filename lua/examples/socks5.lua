-- A connector that reaches its addresses through a SOCKS5 proxy (RFC 1928, without authentication):
--     [socks]
--     type  = "lua"
--     path  = "lua/examples/socks5.lua"
--     proxy = "tcp:10.0.0.9:1080"
-- Then `socks5:db.internal:5432` is an address like any other.
local connpipe = require "connpipe"

local reasons = {
	"general failure", "not allowed", "network unreachable", "host unreachable", "connection refused", "TTL expired",
	"command not supported", "address type not supported",
}

local function port_bytes(port)
	return string.char(math.floor(port / 256), port % 256)
end

-- How many bytes of the bound address follow, by its type.
local function skip_bound(stream, kind)
	local length = kind == 1 and 4 or kind == 4 and 16
	if kind == 3 then
		local byte, err = stream:read(1)
		if not byte then return nil, err end
		length = byte:byte()
	end
	if not length then return nil, "an unknown type of address" end
	return stream:read(length + 2)
end

connpipe.connector {
	aliases = { "socks5" },
	connect = function(address, request)
		if #address.addr > 255 then return nil, "the name is too long for SOCKS5" end
		local stream, err = connpipe.connect(connpipe.config.proxy)
		if not stream then return nil, "proxy: " .. err end
		stream:write("\5\1\0") -- version 5, one method: none
		local answer = stream:read(2)
		if answer ~= "\5\0" then return nil, "the proxy wants authentication, or speaks no SOCKS5" end
		stream:write("\5\1\0\3" .. string.char(#address.addr) .. address.addr .. port_bytes(address.port))
		local head = stream:read(4)
		if not head or #head < 4 then return nil, "the proxy closed the connection" end
		local code = head:byte(2)
		if code ~= 0 then return nil, "the proxy says: " .. (reasons[code] or "error " .. code) end
		local bound, reason = skip_bound(stream, head:byte(4))
		if not bound then return nil, reason end
		return stream -- the pipe takes over
	end,
}
