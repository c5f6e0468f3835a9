// Package wire is what goes over the wire of the REST API: its JSON values, for the
// server and for the client. The tags say the schema, which is part of
// docs/openapi.json.
package wire
