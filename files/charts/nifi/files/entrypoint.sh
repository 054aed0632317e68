#!/bin/sh
# Starts NiFi as the chart wants it. The image's own start.sh knows a key store only together with OIDC or LDAP, no
# limits of the repositories, and gives the password and the key of the flow to processes as arguments, which everyone
# on the node can read. So all of that is written into the files here, before start.sh runs without any secret.
#
# The image's files are in conf/ anew at each start (an init container copies them), so that a new version comes with
# its own; what has to last is on the volume.
set -eu
umask 077

config="${NIFI_CONFIG_DIR:-/etc/nifi/config}"
auth="${NIFI_AUTH_DIR:-/etc/nifi/auth}"
tls="${NIFI_TLS_DIR:-/etc/nifi/tls}"
scripts="${NIFI_BASE_DIR:-/opt/nifi}/scripts"

fail() {
    echo "entrypoint: $1" >&2
    exit 1
}

# secret KEY: the value of a key of the Secret
secret() {
    [ -s "$auth/$1" ] || fail "the Secret has no key $1"
    cat "$auth/$1"
}

# merge LINES FILE: the lines "key=value" into a file of properties, in the place of those with the same keys
merge() {
    awk '
        { key = $0; sub(/=.*/, "", key) }
        FNR == NR { if (/^[^#=]+=/) { line[key] = $0; keys[++count] = key }; next }
        key in line { if (!(key in done)) print line[key]; done[key] = 1; next }
        { print }
        END { for (i = 1; i <= count; i++) if (!(keys[i] in done)) { print line[keys[i]]; done[keys[i]] = 1 } }
    ' "$1" "$2" >"$2.new"
    cat "$2.new" >"$2"
    rm -f "$2.new"
}

# shellcheck source=/dev/null
. "$scripts/common.sh"
: "${nifi_props_file:?}" "${nifi_bootstrap_file:?}"

for file in tls.crt tls.key ca.crt; do
    [ -s "$tls/$file" ] || fail "there is no certificate: $tls/$file is missing"
done

lines="$NIFI_HOME/conf/chart.properties"
key="$(secret sensitive-props-key)"
[ "${#key}" -ge 12 ] || fail "sensitive-props-key has fewer than 12 characters"
{
    cat "$config/nifi.properties"
    printf 'nifi.sensitive.props.key=%s\n' "$key"
} >"$lines"

if [ "$NIFI_AUTH_MODE" = oidc ]; then
    id="$(secret client-id)"
    client_secret="$(secret client-secret)"
    {
        printf 'nifi.security.user.oidc.client.id=%s\n' "$id"
        printf 'nifi.security.user.oidc.client.secret=%s\n' "$client_secret"
    } >>"$lines"
    cat "$config/authorizers.xml" >"$NIFI_HOME/conf/authorizers.xml"
else
    username="$(secret username)"
    hash="$(secret password-bcrypt)"
    case "$username" in
        *[!A-Za-z0-9._@-]*) fail "the username has characters other than A-Z a-z 0-9 . _ @ -" ;;
    esac
    # what the versions 2a, 2b and 2y of bcrypt call themselves is all their difference; NiFi writes 2b
    case "$hash" in
        \$2[aby]\$*) hash="\$2b\$${hash#????}" ;;
        *) fail "password-bcrypt is no hash of bcrypt" ;;
    esac
    cat >"$NIFI_HOME/conf/login-identity-providers.xml" <<XML
<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<loginIdentityProviders>
    <provider>
        <identifier>single-user-provider</identifier>
        <class>org.apache.nifi.authentication.single.user.SingleUserLoginIdentityProvider</class>
        <property name="Username">$username</property>
        <property name="Password">$hash</property>
    </provider>
</loginIdentityProviders>
XML
fi

merge "$lines" "$nifi_props_file"
rm -f "$lines"
merge "$config/bootstrap.conf" "$nifi_bootstrap_file"

# start.sh stops NiFi by a relative path
cd "$NIFI_HOME"
exec "$scripts/start.sh"
