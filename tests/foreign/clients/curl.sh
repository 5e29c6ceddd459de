# curl in a loop: what came last is remembered, and sent with the next request.
last=
while :; do
  type=message
  while IFS= read -r line; do
    case "$line" in
      "id: "*) id=${line#id: } ;;
      "event: "*) type=${line#event: } ;;
      "data: "*) data=${line#data: } ;;
      "")
        [ -z "$data" ] || printf '["%s", [%s], "%s"]\n' "$type" "$data" "$id"
        last=$id type=message data=
        ;;
    esac
  done < <(curl -sN -H "Authorization: Bearer $TOKEN" -H 'Accept: text/event-stream' \
    ${last:+-H "Last-Event-ID: $last"} "$URL")
  data=
  sleep 0.05
done
