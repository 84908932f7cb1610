import t from 'tap'
import { redact, serializeError } from '../../src/primitives/redact.ts'

t.test('a serialised error has its message, code, stack and cause, but no credentials', async (t) => {
  const cause = Object.assign(new Error('at postgres://ann:s3cr3t@db/x'), { code: 'ECONNREFUSED', password: 's3cr3t' })
  const error = new Error('no database', { cause })
  const logged = serializeError(error)
  t.match(logged, {
    ...{ type: 'Error', message: 'no database', stack: /redact\.test/ },
    cause: { code: 'ECONNREFUSED', message: 'at postgres://***@db/x' },
  })
  t.notMatch(JSON.stringify(logged), 's3cr3t')
})

t.test('any thrown value can be serialised', async (t) => {
  const cyclic = new Error('cyclic')
  cyclic.cause = cyclic
  t.equal(serializeError(cyclic).message, 'cyclic')
  for (const thrown of [undefined, null, Object.create(null), Object.assign(new Error(), { message: Symbol('s') })]) {
    t.type(serializeError(thrown).message, 'string')
  }
})

t.test('a long text is cut after 4,000 characters', async (t) => {
  t.equal(redact('x'.repeat(1_000_000)).length, 4_000)
})

// Joined here, because tools that look for leaked credentials would find the whole text.
const join = (...parts: string[]) => parts.join('')

/** Credentials that are recognised without a name before them. */
const tokens = [
  join('AKIA', 'IOSFODNN7EXAMPLE'),
  join('ASIA', 'Y34FZKBOKMUTVV7A'),
  join('eyJhbGciOiJIUzI1NiJ9', '.eyJzdWIiOiIxIn0', '.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U'),
  join('sk_live_', '4eC39HqLyjWDarjtT1zdp7dc'),
  join('sk_test_', '4eC39HqLyjWDarjtT1zdp7dc'),
  join('rk_live_', '4eC39HqLyjWDarjtT1zdp7dc'),
  join('whsec_', 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw/+=='),
  join('ghp_', '16C7e42F292c6912E7710c838347Ae178B4a'),
  join('github_pat_', '11ABCDEFG0_abcdefghijklmnop'),
  join('glpat-', 'abcdefghij-1234567890'),
  join('xoxb-', '17653672481-19874698323-pdFZKVeTuE8sk7oOcHrzqqgy'),
  join('xapp-', '1-A0-12-abcdef'),
  join('AIza', 'SyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe'),
  join('sk-', 'proj-abcdefghijklmnop1234567890'),
  join('SG.', 'ngeVfQFYQlKU0ufo8x5d1A.TwL2iGABf9DHoTf-09kqeF8tAmbihYzrnopKc-1s5cr'),
  join('npm_', 'abcdefghijklmnopqrstuvwxyz0123456789'),
  join('accepted_', 'abcdefghijklmnopqrstuvwxyz0123456789'),
  join('pi_3MtwBwLkdIwHu7ix28a3tqPa', '_secret_', 'YrKJUKribcBjcG8HVhfZluoGH'),
  join('glrt-', 'abcdefghij-1234567890'),
  join('xoxe.xoxp-1-', 'Mi0yLTE2MzA3Njk4MDk2MjMtMTY'),
  join('SK', '0123456789abcdef0123456789abcdef'),
  join('key-', '0123456789abcdef0123456789abcdef'),
  join('0123456789abcdef0123456789abcdef', '-us12'),
  join('sq0csp-', 'ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnop'),
  join('lin_api_', 'abcdefghijklmnopqrstuvwxyz0123456789'),
  join('secret_', 'abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG'),
  join('glsa_', 'abcdefghijklmnopqrstuvwxyz012345_01234567'),
  join('123456789', ':AAEhBP0av28fNm8jvQhBr9qQm2vRzKRc1Xk'),
  join('ATATT3', 'xFfGF0abcdefghijklmnopqrstuvwxyz=0123ABCD'),
]

t.test('a token with a known beginning is removed wherever it stands', async (t) => {
  for (const token of tokens) {
    for (const around of [
      '401 for $',
      'key "$" is invalid',
      '$',
      'https://api.example.com/$/x',
      'id-$,next',
      '[$]',
      `\n$\n`,
    ]) {
      const redacted = redact(around.replace('$', () => token))
      t.notMatch(redacted, token.slice(-12), around)
      t.match(redacted, '***')
    }
  }
})

const secret = 's3cr3t'

/** Texts with a credential in each place where libraries print one. */
const texts: readonly [text: string, expected: string][] = [
  // URLs and connection strings
  ['postgres://ann:s3cr3t@db:5432/x failed', 'postgres://***@db:5432/x failed'],
  ['postgres://ann:p@s3cr3t@db/x failed', 'postgres://***@db/x failed'],
  ['postgres://ann:p/s3cr3t@db/x failed', 'postgres://***@db/x failed'],
  ['amqps://s3cr3t@mq', 'amqps://***@mq'],
  ['host=db user=ann password=s3cr3t dbname=x', 'host=db user=ann password=*** dbname=x'],
  ["host=db password = 's3cr3t word' dbname=x", 'host=db password = *** dbname=x'],
  ['Server=db;User Id=ann;Password=s3cr3t;Timeout=5', 'Server=db;User Id=ann;Password=***'],
  ['AccountName=ann;AccountKey=s3cr3t==', 'AccountName=ann;AccountKey=***'],
  ['GET https://h/x?access_token=s3cr3t', 'GET https://h/x?***'],
  ['GET https://h/x?X-Amz-Signature=s3cr3t', 'GET https://h/x?***'],
  ['grant_type%3Dpassword%26client_secret%3Ds3cr3t', 'grant_type%3Dpassword%26client_secret%3D***'],
  // Headers
  ['Authorization: Digest username="ann", response="s3cr3t"', 'Authorization: ***'],
  ['Cookie: theme=dark; sid=s3cr3t\nHost: h', 'Cookie: ***\nHost: h'],
  ['Set-Cookie: sid=s3cr3t; Path=/; HttpOnly', 'Set-Cookie: ***'],
  ["headers: { 'set-cookie': [ 'a=1', 'sid=s3cr3t' ], x: 1 }", "headers: { 'set-cookie': ***, x: 1 }"],
  ["[ 'Host', 'h', 'Cookie', 'sid=s3cr3t', 'Accept', '*' ]", "[ 'Host', 'h', 'Cookie', ***, 'Accept', '*' ]"],
  ['x-api-key: s3cr3t', 'x-api-key: ***'],
  ['proxy-authorization: Basic s3cr3t', 'proxy-authorization: ***'],
  ['sent Bearer s3cr3t.s3cr3t-x', 'sent Bearer ***'],
  ['x-auth-token: Bearer s3cr3t next', 'x-auth-token: *** next'],
  // JSON, JSON in JSON, other languages
  ['{"access_token": "s3cr3t", "user": "ann"}', '{"access_token": ***, "user": "ann"}'],
  [String.raw`{"password":"a\"b s3cr3t","user":"ann"}`, '{"password":***,"user":"ann"}'],
  [String.raw`body "{\"token\":\"s3cr3t\",\"user\":\"ann\"}"`, String.raw`body "{\"token\":***,\"user\":\"ann\"}"`],
  [JSON.stringify(JSON.stringify({ secret: 'a"s3cr3t' })), String.raw`"{\"secret\":***}"`],
  [JSON.stringify(JSON.stringify(JSON.stringify({ pwd: 'a"s3cr3t\\' }))), String.raw`"\"{\\\"pwd\\\":***}\""`],
  ['{"tokens":["s3cr3t one","s3cr3t two"],"n":1}', '{"tokens":***,"n":1}'],
  ['{"clientSecret":{"value":"s3cr3t"}}', '{"clientSecret":***}'],
  ["{ :password=>'s3cr3t', :user=>'ann' }", "{ :password=>***, :user=>'ann' }"],
  ['<password>s3cr3t word</password>', '<password>***</password>'],
  ['user[password]=s3cr3t', 'user[password]=***'],
  ['AWS_SECRET_ACCESS_KEY=s3cr3t', 'AWS_SECRET_ACCESS_KEY=***'],
  ['export SMTP_PASS=s3cr3t', 'export SMTP_PASS=***'],
  // Names and values apart
  ['{"name":"password","value":"s3cr3t","n":1}', '{"name":"password","value":***,"n":1}'],
  ['<input name="password" value="s3cr3t">', '<input name="password" value=***>'],
  ['name="password"\r\n\r\ns3cr3t word\r\n--x', 'name="password"\r\n\r\n***\r\n--x'],
  ["new Map([['password', 's3cr3t']])", "new Map([['password', ***]])"],
  ['Key (token)=(s3cr3t) already exists', 'Key (token)=*** already exists'],
  ['Key (email, reset_token)=(a@b.c, s3cr3t) already exists', 'Key (email, reset_token)=*** already exists'],
  ['Key (lower(token))=(s3cr3t) already exists', 'Key (lower(token))=*** already exists'],
  ['<ns:password type="plain">s3cr3t</ns:password>', '<ns:password type="plain">***</ns:password>'],
  // Encoded
  ['%7B%22token%22%3A%22s3cr3t%22%7D', '%7B%22token%22%3A***'],
  ['password%253Ds3cr3t', 'password%253D***'],
  ['next=https%3A%2F%2Fann%3As3cr3t%40h%2Fx', 'next=https%3A%2F%2F***%40h%2Fx'],
  [String.raw`"postgres:\/\/ann:s3cr3t@db\/x"`, String.raw`"postgres:\/\/***@db\/x"`],
  ['GET https://h/x?flag&key=s3cr3t', 'GET https://h/x?***'],
  // Sentences
  ['Invalid API key: s3cr3t', 'Invalid API key: ***'],
  ['Incorrect API key provided: s3cr3t', 'Incorrect API key provided: ***'],
  ['the token "s3cr3t-and-more" has expired', 'the token *** has expired'],
  // Sessions
  ['session=s3cr3t; theme=dark', 'session=*** theme=dark'],
  ['csrf=s3cr3t', 'csrf=***'],
  // Commands
  ['curl -u ann:s3cr3t https://h', 'curl -u *** https://h'],
  ['curl --user ann:s3cr3t https://h', 'curl --user *** https://h'],
  ['mysql --password s3cr3t -h db', 'mysql --password *** -h db'],
  ["alter role ann password 's3cr3t' valid", 'alter role ann password *** valid'],
  // Cut off
  ['{"password":"s3cr3t and', '{"password":***'],
  ['-----BEGIN RSA PRIVATE KEY-----\ns3cr3t\n-----END RSA PRIVATE KEY-----\nnext', '***\nnext'],
  ['-----BEGIN PRIVATE KEY-----\ns3cr3t', '***'],
]

t.test('a credential is removed, and the text around it stays', async (t) => {
  for (const [text, expected] of texts) {
    t.equal(redact(text), expected)
    t.notMatch(redact(`before ${text} after`), secret, text)
    t.equal(redact(redact(text)), redact(text), `redacting twice changes nothing: ${text}`)
  }
})

t.test('a credential that stands where a long text is cut is removed', async (t) => {
  for (const [credential] of texts) {
    for (const length of [3_980, 3_990, 4_000 - credential.indexOf(secret) - 4]) {
      t.notMatch(redact(`${'x '.repeat(length / 2)}${credential}`), /s3cr/, credential)
    }
  }
})

t.test('the name and the code of an error are redacted too', async (t) => {
  const error = Object.assign(new Error('x'), { name: 'token=s3cr3t', code: 'password=s3cr3t' })
  t.notMatch(JSON.stringify(serializeError(error)), secret)
})

t.test('a text without credentials stays as it is', async (t) => {
  for (const text of [
    'connect ECONNREFUSED 127.0.0.1:25',
    'password authentication failed for user "ann"',
    `Unexpected token 'a', "abc" is not valid JSON`,
    'index "key" (a, b) on user ann: 12:30:00, 10.0.0.1:5432, a::b, 12345678:x',
    '<h1>Bad gateway</h1><p class="error">nginx</p> and {"name":"todo","value":"milk"}',
    'psql -U ann --user bob and Key (id)=(5) already exists',
    'http://[::1]:3000/users/@ann and http://localhost:3000/users/@bob',
    'duplicate key value violates unique constraint "todo_pkey"',
    'The payload does not match: /title must be string',
  ]) {
    t.equal(redact(text), text)
  }
})
