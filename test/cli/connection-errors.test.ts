import { createServer } from 'node:net'
import t from 'tap'
import { run } from '../support/command.ts'
import { createDatabase } from '../support/database.ts'
import { freePort, todosConfig } from '../support/program.ts'

/** A name that is too long for the DNS, so no query leaves this machine. */
const unknownHost = 'x'.repeat(64)

t.test('if Postgres refuses the connection, the message names DATABASE_URL and what to correct', async (t) => {
  const url = new URL(await createDatabase(t))
  const changed = (change: (url: URL) => void) => {
    const other = new URL(url)
    change(other)
    return other.href
  }
  for (const [name, DATABASE_URL, message] of [
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
    ['TLS', changed((url) => url.searchParams.set('sslmode', 'verify-full')), /sslmode in DATABASE_URL/],
  ] as const) {
    for (const command of ['api', 'worker', 'migrate']) {
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
  }
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
      { PORT: '0', HOST: '192.0.2.1', HOSTS: '*' },
      /Cannot listen on 192\.0\.2\.1.*Set HOST to an address of this machine/,
    ],
  ] as const) {
    const { code, err } = await run(['api', '--config', todosConfig], { DATABASE_URL, LOG_LEVEL: 'fatal', ...env })
    t.equal(code, 1)
    t.match(err, message)
  }
})
