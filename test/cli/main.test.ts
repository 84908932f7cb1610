import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Command } from 'commander'
import t from 'tap'
import { createProgram } from '../../src/cli/commands.ts'
import { run } from '../support/command.ts'
import { createDatabase } from '../support/database.ts'
import { freePort, todosConfig } from '../support/program.ts'

const config = ['--config', todosConfig]

t.test('each command has a help text', async (t) => {
  for (const command of ['dev', 'api', 'worker', 'migrate', 'keys', 'jobs', 'webhooks']) {
    const { code, out } = await run([command, '--help'])
    t.equal(code, 0)
    t.match(out, `Usage: accepted ${command}`)
  }
})

t.test('every command takes --config', async (t) => {
  const leaves = (command: Command): Command[] =>
    command.commands.length > 0 ? command.commands.flatMap((child) => leaves(child as Command)) : [command]
  for (const command of leaves(createProgram())) {
    t.ok(
      command.options.some(({ long }) => long === '--config'),
      `${command.parent?.name()} ${command.name()}`,
    )
  }
  const DATABASE_URL = await createDatabase(t)
  for (const args of [['jobs', 'list'], ['batches', 'list'], ['schedules', 'list'], ['workers']]) {
    t.match(await run([...args, ...config, '--json'], { DATABASE_URL }), { code: 0, out: '[]\n', err: '' })
  }
})

t.test('the help text advises against running API and worker in one process', async (t) => {
  for (const [command, option] of [
    ['dev', '--in-process'],
    ['api', '--with-worker'],
  ]) {
    const { out } = await run([command as string, '--help'])
    t.match(out.replace(/\s+/g, ' '), new RegExp(`${option} .*not recommended`))
  }
})

t.test('if a setting or an argument is invalid, a command prints one error line and exits with code 1', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const nowhere = `postgres://ann:secret@127.0.0.1:${await freePort()}/none`
  for (const [args, env, sentence] of [
    [['api', ...config], { DATABASE_URL: '' }, /^error: DATABASE_URL is not set\. Set it to .*\n$/],
    [['api', ...config], { DATABASE_URL: 'mysql://ann:secret@host' }, /^error: DATABASE_URL is invalid: it must .*\n$/],
    [['api', ...config], { DATABASE_URL: nowhere }, /^error: Postgres does not answer .*ECONNREFUSED.*\n$/],
    [['worker', ...config], { DATABASE_URL: nowhere }, /^error: Postgres does not answer .*ECONNREFUSED.*\n$/],
    [['migrate', ...config], { DATABASE_URL: nowhere }, /^error: Postgres does not answer .*ECONNREFUSED.*\n$/],
    [
      ['api', '--config', 'none.ts'],
      { DATABASE_URL },
      /^error: The configuration file .*none\.ts does not exist\. Check --config\.\n$/,
    ],
    [
      ['worker', ...config, '--operations', 'todo.crate'],
      { DATABASE_URL },
      /^error: There is no operation 'todo\.crate'\. Choose among these: .*\btodo\.create, .*\n$/,
    ],
    [
      ['worker', ...config],
      { DATABASE_URL, WEBHOOK_ALLOW: '10.0.0.0/8,10.0.0.0/33' },
      /^error: WEBHOOK_ALLOW='10\.0\.0\.0\/8,10\.0\.0\.0\/33' is invalid: it must be a list of IP addresses .*\n$/,
    ],
    [
      ['api', ...config],
      { DATABASE_URL, DATABASE_PREPARED_STATEMENTS: 'no' },
      /^error: DATABASE_PREPARED_STATEMENTS='no' is invalid: .*\n$/,
    ],
    [['worker', ...config], { DATABASE_URL, GRACE_SECONDS: '-1' }, /^error: GRACE_SECONDS='-1' is invalid: .*\n$/],
    [['api', ...config], { DATABASE_URL, LOG_LEVEL: 'loud' }, /^error: LOG_LEVEL='loud' is invalid: .*\n$/],
  ] as const) {
    const ran = await run(args, { ...env, PORT: String(await freePort()), WORKER_PORT: String(await freePort()) })
    t.equal(ran.code, 1)
    t.match(ran.err, sentence)
    t.notMatch(ran.err + ran.out, 'secret')
  }
})

t.test(
  'if migrations have not been applied, API and worker exit with an error that names the command to run',
  async (t) => {
    const DATABASE_URL = await createDatabase(t, { empty: true })
    for (const command of ['api', 'worker']) {
      const ran = await run([command, ...config], { DATABASE_URL, PORT: '0', WORKER_PORT: '0' })
      t.equal(ran.code, 1)
      t.match(ran.err, /^error: .*accepted migrate.*\n$/)
    }
  },
)

t.test('migrate prints the applied migrations, as text or JSON', async (t) => {
  const DATABASE_URL = await createDatabase(t, { empty: true })
  const first = await run(['migrate', ...config, '--json'], { DATABASE_URL })
  t.match(JSON.parse(first.out).migrations, ['0001_accepted', '0001_todos', '0002_summary'])
  t.match(await run(['migrate', ...config], { DATABASE_URL }), {
    code: 0,
    out: 'The database is already up to date.\n',
  })
})

t.test('if the configuration file is incomplete, a command prints one error line', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'accepted-config-'))
  t.teardown(() => rm(directory, { recursive: true }))
  const file = join(directory, 'accepted.config.ts')
  await writeFile(file, 'export default {}')
  const ran = await run(['api', '--config', file], { DATABASE_URL: 'postgres://127.0.0.1/none' })
  t.match(ran.err, /^error: .* must export defineConfig\(.*\) as its default export\.\n$/)
})
