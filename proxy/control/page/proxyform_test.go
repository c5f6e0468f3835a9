package page

import (
	"reflect"
	"testing"
)

// FuzzProxyForm: what the form takes, it shows again as the same, and a merge never
// loses what was typed.
func FuzzProxyForm(f *testing.F) {
	f.Add("www.shop.example", "2001:db8:64::2\n2001:db8:64::3", "80", "443", "off", "", "81")
	f.Add("https://BÜCHER.example./", "[2001:db8::1], ::ffff:192.0.2.1;x", " 8080 ", "", "v1", "on", "")
	f.Fuzz(func(t *testing.T, host, backends, http, https, header, off, theirs string) {
		v := values{"host": host, "backends": backends, "http": http, "https": https, "proxy_protocol": header, "off": off}
		p, wrong := v.proxy("shop")
		if len(wrong) == 0 {
			again, wrong := valuesOf(&p).proxy("shop")
			if len(wrong) > 0 || !reflect.DeepEqual(p, again) {
				t.Errorf("%+v became %+v, %v", p, again, wrong)
			}
		}
		other := valuesOf(&p)
		other["http"] = theirs
		form, _ := mergeProxy(v, v, other)
		if got := form.field("http").Value; got != theirs {
			t.Errorf("not touched, and not theirs: %q", got)
		}
		form, _ = mergeProxy(values{"http": http + "1"}, v, other)
		if got := form.field("http").Value; got != http && http != theirs {
			t.Errorf("typed %q, and now %q", http, got)
		}
	})
}
