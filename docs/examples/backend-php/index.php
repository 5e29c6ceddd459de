<?php
// A backend for hybrid in plain PHP (8.0 or later): `php -S 127.0.0.1:9000 index.php`. It checks signatures, decides who
// reads and writes which channel, answers a call and hears events. See ../backend-node for one that also publishes.
declare(strict_types=1);

const TOLERANCE_S = 300;

// Standard Webhooks: HMAC-SHA256 over id.timestamp.body
function is_signed(string $body): bool
{
    $secret = base64_decode(substr((string) getenv('HYBRID_HOOKS_SECRET'), strlen('whsec_')), true);
    $id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
    $at = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if (!$secret || $id === '' || !preg_match('/^\d{1,12}$/D', $at) || abs(time() - (int) $at) > TOLERANCE_S) {
        return false;
    }
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$at.$body", $secret, true));
    foreach (explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $shown) {
        if (hash_equals($expected, $shown)) {
            return true;
        }
    }
    return false;
}

function respond(int $status, ?array $answer = null): void
{
    http_response_code($status);
    if ($answer !== null) {
        header('Content-Type: application/json');
        echo json_encode($answer, JSON_THROW_ON_ERROR);
    }
}

function answer(array $question): array
{
    $is_staff = $question['principal']['subject'] === 'ada';
    return match ($question['ask']) {
        'connect' => ['allow' => $question['principal']['subject'] !== 'mallory', 'reason' => 'banned', 'cache_s' => 60],
        'subscribe', 'publish' => [
            'allow' => $question['channel'] !== 'room:staff' || $is_staff, 'reason' => 'staff only', 'cache_s' => 60,
        ],
        'call' => $question['name'] === 'add' ? ['result' => array_sum($question['data'])] : ['error' => 'no such call'],
    };
}

$body = (string) file_get_contents('php://input');
if ($_SERVER['REQUEST_METHOD'] !== 'POST' || !is_signed($body)) {
    respond(401);
    return;
}
$message = json_decode($body, true, 64, JSON_THROW_ON_ERROR);
if (isset($message['events'])) {
    foreach ($message['events'] as $event) { // a repeat has the same id: keep those that you act upon
        error_log("{$event['type']} " . ($event['channel'] ?? $event['principal']['subject']));
    }
    respond(204);
    return;
}
respond(200, answer($message));
