#!/bin/sh
# What the instance does at its first boot. The same as user-data.before.sh, but for the parts marked (1) to (3).
set -eu

DOMAIN=example.com
ZONE=Z0123456789ABCDEFGHIJ
RELEASES=s3://example-com-releases

imds() {
    token=$(curl -fsS -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
    curl -fsS -H "X-aws-ec2-metadata-token: $token" "http://169.254.169.254/latest/meta-data/$1"
}
public_ip=$(imds public-ipv4)
AWS_DEFAULT_REGION=$(imds placement/region)
export AWS_DEFAULT_REGION

# The newest release's code, and its virtual environment from the wheels that it brings.
newest=$(aws s3 ls "$RELEASES/" | sort | tail -n 1 | awk '{print $4}')
mkdir -p /srv/shop
aws s3 cp --only-show-errors "$RELEASES/$newest" /tmp/release.tar.gz
tar -xzf /tmp/release.tar.gz --no-same-owner -C /srv/shop
python3 -m venv /srv/shop/venv
/srv/shop/venv/bin/pip install -q --no-index --find-links /srv/shop/wheels -r /srv/shop/requirements.txt

# gunicorn, on loopback.
id shop >/dev/null 2>&1 || useradd --system --shell /usr/sbin/nologin shop
(umask 077 && printf 'DJANGO_SECRET_KEY=%s\n' "$(python3 -c 'import secrets; print(secrets.token_urlsafe(50))')" >/etc/shop.env)
cat >/etc/systemd/system/shop.service <<UNIT
[Unit]
Description=the shop

[Service]
User=shop
WorkingDirectory=/srv/shop
EnvironmentFile=/etc/shop.env
Environment="DJANGO_ALLOWED_HOSTS=$DOMAIN www.$DOMAIN"
ExecStart=/srv/shop/venv/bin/gunicorn --bind 127.0.0.1:8000 --workers 2 shop.wsgi
Restart=on-failure

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable --now shop

# (1) nginx answers at port 443 as well: the three lines that `certkeeper user-data example.com --nginx` prints, and a
# fourth that sends visitors of port 80 there, as certbot's did.
rm -f /etc/nginx/sites-enabled/default
cat >/etc/nginx/conf.d/shop.conf <<NGINX
server {
    listen 80;
    server_name $DOMAIN www.$DOMAIN;
    listen 443 ssl;
    ssl_certificate     /etc/letsencrypt/live/$DOMAIN/fullchain.pem;
    ssl_certificate_key /etc/letsencrypt/live/$DOMAIN/privkey.pem;
    if (\$scheme = http) { return 301 https://\$host\$request_uri; }
    location / {
        proxy_pass http://127.0.0.1:8000;
        proxy_set_header Host \$host;
        proxy_set_header X-Forwarded-Proto \$scheme;
    }
}
NGINX

# (2) In place of certbot. `certkeeper user-data example.com --gzip --into user-data.sh` writes between these marks.
# >>> certkeeper >>>
# <<< certkeeper <<<

# (3) The A record comes last, once HTTPS answers by name: until then visitors stay with the instance before this one.
curl -fsS -o /dev/null --retry 60 --retry-delay 1 --retry-all-errors --resolve "$DOMAIN:443:127.0.0.1" "https://$DOMAIN/"
aws route53 change-resource-record-sets --hosted-zone-id "$ZONE" --change-batch "{\"Changes\": [{\"Action\": \"UPSERT\",
    \"ResourceRecordSet\": {\"Name\": \"$DOMAIN\", \"Type\": \"A\", \"TTL\": 60, \"ResourceRecords\": [{\"Value\": \"$public_ip\"}]}}]}"
