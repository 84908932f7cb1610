import { createServer } from 'node:net'
import t from 'tap'
import { run } from '../support/command.ts'
import { asRole, createDatabase, queryOnce } from '../support/database.ts'
import { freePort, todosConfig } from '../support/program.ts'

/** A name that is too long for the DNS, so no query leaves this machine. */
const unknownHost = 'x'.repeat(64)

t.test('if Postgres refuses the connection, the message names DATABASE_URL and what to correct', async (t) => {
  const url = new URL(asRole(await createDatabase(t), 'api'))
  const changed = (change: (url: URL) => void) => {
    const other = new URL(url)
    change(other)
    return other.href
  }
  const commands = ['api', 'worker', 'migrate']
  const mistakes = [
    [
      'password',
      changed((url) => Object.assign(url, { password: 'wr0ng' })),
      /Correct the user or the password in DATABASE_URL/,
    ],
    [
      'user',
      changed((url) => Object.assign(url, { username: 'nobody' })),
      /Correct the user or the password in DATABASE_URL/,
    ],
    [
      'no password',
      changed((url) => Object.assign(url, { password: '' })),
      /requires a password\. Set DATABASE_URL to/,
    ],
    [
      'database',
      changed((url) => Object.assign(url, { pathname: '/none' })),
      /"none" does not exist\. .*its name in DATABASE_URL/,
    ],
    [
      'host',
      changed((url) => Object.assign(url, { hostname: unknownHost })),
      /The host 'x{64}' in DATABASE_URL is unknown/,
    ],
    [
      'port',
      changed((url) => Object.assign(url, { port: '1' })),
      /does not answer at the address in DATABASE_URL .*ECONNREFUSED/,
    ],
    [
      'certificate',
      changed((url) => {
        url.searchParams.set('sslmode', 'verify-full')
        url.searchParams.set('sslrootcert', '/none/ca.pem')
      }),
      /The file \/none\/ca\.pem in DATABASE_URL cannot be read \(ENOENT\)/,
    ],
    ['TLS', changed((url) => url.searchParams.set('sslmode', 'verify-full')), /sslmode in DATABASE_URL/],
  ] as const
  for (const [index, [name, DATABASE_URL, message]] of mistakes.entries()) {
    // The commands connect in the same way, so one of them is enough for each mistake.
    const command = commands[index % commands.length] as string
    const env = {
      DATABASE_URL,
      PORT: String(await freePort()),
      WORKER_PORT: String(await freePort()),
      LOG_LEVEL: 'fatal',
    }
    const { code, err } = await run([command, '--config', todosConfig], env)
    t.equal(code, 1)
    t.match(err, message, `${command}: ${name}`)
    t.match(err, /^error: .*\n$/, 'one line')
    t.notMatch(err, /wr0ng/)
  }
})

t.test('if a role may not connect to the database or use it, the message says what to grant', async (t) => {
  const url = new URL(await createDatabase(t))
  const name = url.pathname.slice(1)
  const role = `role_${name}`
  t.teardown(() => queryOnce(url.href, `drop owned by ${role}; drop role ${role}`))
  const other = Object.assign(new URL(url), { username: role, password: 'pa55' }).href
  for (const [statement, message] of [
    [`create role ${role} nologin password 'pa55'`, /is not permitted to log in\. Give the role LOGIN/],
    [`alter role ${role} login connection limit 0`, /too many connections for role .* raise the connection limit/],
    [`alter role ${role} connection limit -1`, /permission denied for schema accepted\w*\. .*grant the role/],
    [`revoke connect on database ${name} from public`, /permission denied for database .* Grant the role CONNECT/],
  ] as const) {
    await queryOnce(url.href, statement)
    const { code, err } = await run(['jobs', 'list'], { DATABASE_URL: other })
    t.equal(code, 1)
    t.match(err, message)
    t.match(err, /^error: .*\n$/)
    t.notMatch(err, /pa55/)
  }
  const query = new URL(url)
  query.searchParams.set('options', '-c none=1')
  t.match(await run(['jobs', 'list'], { DATABASE_URL: query.href }), {
    err: /^error: Postgres refused the connection: unrecognized .* Correct DATABASE_URL\.\n$/,
  })
})

t.test('a server that is not Postgres is reported', async (t) => {
  const server = createServer((socket) => socket.end('J\0\0\0\0')).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as { port: number }
  const { err } = await run(['jobs', 'list'], { DATABASE_URL: `postgres://ann:pa55@127.0.0.1:${port}/x` })
  t.match(err, /^error: The server at the address in DATABASE_URL is not Postgres\. .*\n$/)
})

t.test('an unusable address of a server is reported with the setting to change', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as { port: number }
  for (const [env, message] of [
    [{ PORT: String(port) }, /Port \d+ is in use\. .*PORT or WORKER_PORT/],
    [
      { PORT: '0', HOST: '192.0.2.1', HOSTS: '*', ALLOW_ANONYMOUS: '1' },
      /Cannot listen on 192\.0\.2\.1.*Set HOST to an address of this machine/,
    ],
    [
      { PORT: '0', HOST: unknownHost, HOSTS: '*', ALLOW_ANONYMOUS: '1' },
      /HOST=x{64} is unknown .*such as HOST=127\.0\.0\.1/,
    ],
  ] as const) {
    const { code, err } = await run(['api', '--config', todosConfig], { DATABASE_URL, LOG_LEVEL: 'fatal', ...env })
    t.equal(code, 1)
    t.match(err, message)
  }
})

t.test('a database that is not migrated is explained in one line', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  await queryOnce(DATABASE_URL, 'alter function accepted.find_jobs rename to find_no_jobs')
  t.match(await run(['jobs', 'list'], { DATABASE_URL }), {
    code: 1,
    err: /^error: The database is not migrated to this release: function accepted\.find_jobs.* does not exist\. Run `accepted migrate`.*\n$/,
  })
  await queryOnce(DATABASE_URL, 'alter schema accepted rename to other')
  t.match(await run(['workers'], { DATABASE_URL }), {
    code: 1,
    err: /^error: The database is not migrated to this release: relation "accepted\.worker_overview" does not exist\. .*\n$/,
  })
})
