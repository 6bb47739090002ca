-- A connector that reaches its addresses through an HTTP proxy with CONNECT (RFC 9110, 9.3.6):
--     [tunnel]
--     type  = "lua"
--     path  = "lua/examples/http_connect.lua"
--     proxy = "tcp:10.0.0.9:3128"
-- Then `via:db.internal:5432` is an address like any other.
local connpipe = require "connpipe"

connpipe.connector {
	aliases = { "via" },
	connect = function(address)
		local host = address.addr:find(":", 1, true) and "[" .. address.addr .. "]" or address.addr
		local target = host .. ":" .. address.port
		local stream, err = connpipe.connect(connpipe.config.proxy)
		if not stream then return nil, "proxy: " .. err end
		stream:write("CONNECT " .. target .. " HTTP/1.1\r\nHost: " .. target .. "\r\n\r\n")
		local status, reason = stream:read_line()
		if not status then return nil, "proxy: " .. reason end
		if not status:match("^HTTP/1%.[01] 2%d%d") then return nil, "the proxy says: " .. status end
		repeat
			local line = stream:read_line()
			if not line then return nil, "the proxy's answer is cut short" end
		until line == ""
		return stream -- with what the target may have said already: nothing is lost
	end,
}
