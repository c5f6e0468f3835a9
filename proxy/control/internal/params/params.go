// Package params is what requests say besides their bodies: in path, query and
// headers.
//
// The types are here because the library sees fields of embedded types only if those
// have a name in upper case, and none of this is for others.
//
// Entity tags are revisions in quotes (RFC 9110 8.8.3): that of the last change by
// people, so that a look at the DNS spoils nobody's edit.
package params

// InProject is the path of a project.
type InProject struct {
	Project string `path:"project" example:"shop" doc:"Name of a project"`
}

// InProxy is the path of a proxy.
type InProxy struct {
	InProject
	Host string `path:"host" example:"www.shop.example" doc:"Host name in lower case, international ones as A-labels; or *. and a domain"`
}

// InToken is the end of the path of a token.
type InToken struct {
	ID string `path:"id" doc:"ID of a token"`
}

// InTrust is the path of a trust.
type InTrust struct {
	Domain string `path:"domain" example:"shop.example" doc:"A domain; all names in it are meant"`
}

// InHold is the path of a hold.
type InHold struct {
	Host string `path:"host" example:"www.shop.example" doc:"A host name that has been released"`
}

// Page says which part of a list is asked for.
type Page struct {
	After string `query:"after" maxLength:"300" doc:"What the page before said in next; nothing for the first"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Items of a page, at most"`
}

// Projects says which part of the list of projects is asked for.
type Projects struct {
	Page
	Search string `query:"search" maxLength:"253" doc:"Only those with this in their name or title"`
}

// Proxies says which part of a list of proxies is asked for.
type Proxies struct {
	InProject
	Page
	Search string `query:"search" maxLength:"253" doc:"Only those with this in their host name"`
}

// Back is the same for a list that goes back in time.
type Back struct {
	Before string `query:"before" maxLength:"100" doc:"What the page before said in next; nothing for the newest"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Items of a page, at most"`
}

// Tokens says which part of a list of tokens is asked for.
type Tokens struct {
	Page
	Sessions bool `query:"sessions" doc:"Also those that people have signed in to the page with"`
}
