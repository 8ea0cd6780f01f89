package main

import "net/http"

// What somebody may do, as the roles of the guide say. Replacing an object takes both create and delete.
type role struct {
	get, list, create, delete bool
	// What every request is answered, if not 0.
	status int
	code   string
}

var roles = map[string]role{
	"owner":    {get: true, list: true, create: true, delete: true},
	"writer":   {get: true, list: true, create: true},
	"expirer":  {get: true, list: true, delete: true},
	"restorer": {get: true, list: true},
	"stranger": {},
	"unknown":  {status: http.StatusUnauthorized, code: "AuthenticationRequired"},
}
