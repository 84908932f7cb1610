import { join } from 'node:path'
import t from 'tap'
import { run } from '../support/command.ts'
import { createDatabase } from '../support/database.ts'
import { freePort, start } from '../support/program.ts'
import { validApp, writeApp } from './app.ts'

t.jobs = 2

/** Runs a command that must fail before it connects to the database. */
async function fail(directory: string, command = 'worker', config = 'accepted.config.js') {
  const [PORT, WORKER_PORT] = [String(await freePort()), String(await freePort())]
  const env = { DATABASE_URL: 'postgres://ann@127.0.0.1:1/none', PORT, WORKER_PORT, LOG_LEVEL: 'warn' }
  const { code, err } = await run([command, '--config', join(directory, config)], env)
  return { code, err }
}

t.test('a mistake in a file of the app is reported with its file, line and column, and with the stack', async (t) => {
  for (const [file, content, place, message] of [
    ['accepted.config.js', '\n\n  const = 1', '3:9', "Unexpected token '='"],
    ['operations.js', 'export const a = 1\n  export const b = {', '2:21', 'Unexpected end of input'],
    ['handlers.js', '\nimport { nothing } from "./operations.js"', '2:10', 'does not provide an export named'],
    ['handlers.js', 'function f() {\n  throw new Error("no mailer")\n}\nf()', '2:9', 'no mailer'],
    ['handlers.js', 'JSON.parse("{")', '1:6', 'in JSON at position 1'],
    ['helper.ts', 'export const a: number = 1\n  const b: = 2', '2:12', 'Unexpected token'],
    ['helper.ts', 'export enum Color { Red }', '1:8', 'enum is not supported'],
  ] as const) {
    const files: Record<string, string> = { [file]: content }
    if (file === 'helper.ts') files['handlers.js'] = `import './helper.ts'`
    const directory = await writeApp(t, files)
    const { code, err } = await fail(directory)
    t.equal(code, 1)
    t.ok(err.includes(`error: ${join(directory, file)}:${place}: `), `${file}: ${err}`)
    t.match(err, message)
    t.match(err, /\n {4}at /, 'the stack is printed')
  }
})

t.test('a mistake in the routes is reported with its file, line and column', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  for (const [content, place] of [
    ['export default async () => {\n  null.x\n}', '2:8'],
    ['export default async ( => {}', '1:24'],
  ] as const) {
    const directory = await writeApp(t, { 'routes.js': content })
    const args = ['api', '--config', join(directory, 'accepted.config.js')]
    const { code, err } = await run(args, { DATABASE_URL, PORT: String(await freePort()) })
    t.equal(code, 1)
    t.ok(err.includes(`error: ${join(directory, 'routes.js')}:${place}: `), err)
  }
})

t.test('a value that the routes throw is reported with their file', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const directory = await writeApp(t, { 'routes.js': "export default async () => { throw 'no cache' }" })
  const args = ['api', '--config', join(directory, 'accepted.config.js')]
  const { code, err } = await run(args, { DATABASE_URL, PORT: String(await freePort()) })
  t.same([code, err], [1, `error: ${join(directory, 'routes.js')}: the plugin threw no cache. Correct the routes.\n`])
})

t.test('a mistake in handlers that are created at the start is reported with its place and the stack', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const directory = await writeApp(t, {
    'handlers.js': `import { defineHandlers } from 'accepted/worker'
      import * as operations from './operations.js'
      export default defineHandlers(operations, async () => {
        throw new Error('no mailer')
      })`,
  })
  const args = ['worker', '--config', join(directory, 'accepted.config.js')]
  const { code, err } = await run(args, { DATABASE_URL, WORKER_PORT: String(await freePort()), LOG_LEVEL: 'warn' })
  t.equal(code, 1)
  t.ok(err.startsWith(`error: ${join(directory, 'handlers.js')}:4:15: no mailer\n`), err)
  t.match(err, /\n {4}at /)
})

t.test('handlers and schedules that are found to be wrong at the start are reported with their place', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const handlers = (record: string) => `import { defineHandlers } from 'accepted/worker'
    import * as operations from './operations.js'
    export default defineHandlers(operations, ${record})`
  const scheduled = `${validApp['operations.js']}
    import { defineSchedule } from 'accepted'
    export const daily = defineSchedule({ name: 'daily', cron: '@dayly', operation: say, payload: {} })`
  for (const [files, start] of [
    [{ 'handlers.js': handlers('{}') }, 'handlers.js:3:20: No handler is defined for word.say\n'],
    [
      { 'handlers.js': handlers("{ 'Word.say': { settle() {} } }") },
      'handlers.js:3:20: No handler is defined for word.say; there is a handler for Word.say, which is no operation\n',
    ],
    [{ 'handlers.js': handlers("{ 'word.say': { settel() {} } }") }, "handlers.js:3:20: The handler of 'word.say'"],
    [{ 'handlers.js': handlers('async () => undefined') }, 'handlers.js:3:20: defineHandlers requires a record'],
    [{ 'handlers.js': handlers("() => { throw 'no mailer' }") }, 'handlers.js: creating the handlers threw no mailer'],
    [{ 'operations.js': scheduled }, "operations.js:6:26: Schedule 'daily': '@dayly' in UTC is invalid"],
  ] as const) {
    const directory = await writeApp(t, files as Record<string, string>)
    const args = ['worker', '--config', join(directory, 'accepted.config.js')]
    const { code, err } = await run(args, { DATABASE_URL, WORKER_PORT: String(await freePort()), LOG_LEVEL: 'warn' })
    t.equal(code, 1)
    t.ok(err.startsWith(`error: ${join(directory, start)}`), err)
    t.equal(err.trimEnd().split('\n').length, 1, err)
  }
})

t.test('SIGTERM ends a worker that is still loading its handlers', async (t) => {
  const directory = await writeApp(t, {
    'handlers.js': 'setInterval(() => {}, 1000); process.kill(process.pid, "SIGTERM"); await new Promise(() => {})',
  })
  t.match(await fail(directory), { code: 143 })
})

t.test('a configuration error is one line that names the place, without a stack', async (t) => {
  for (const [files, place, message] of [
    [
      {
        'operations.js': `import { defineOperation } from 'accepted'\nexport const say = defineOperation({ name: 'Say' })`,
      },
      'operations.js:2:20',
      /Operation 'Say': the name must .*todo\.create/,
    ],
    [{ 'handlers.js': `\nimport './none.js'` }, 'handlers.js:2:9', /Correct the path of the import/],
    [{ 'handlers.js': `import 'no-such-package'` }, 'handlers.js:1:9', /npm install no-such-package/],
    [{ 'handlers.js': null }, 'handlers.js', /There is no .*correct its path/],
    [{ 'handlers.js': 'export default 1' }, 'handlers.js', /must export defineHandlers/],
    [{ 'routes.js': null, 'package.json': '{"type":"commonjs"}' }, 'accepted.config.js:2:5', /set "type": "module" in/],
  ] as const) {
    const directory = await writeApp(t, files)
    const { code, err } = await fail(directory)
    t.equal(code, 1)
    const lines = err.split('\n').filter((line) => line && !/^\(.*(Warning|--trace-warnings)/.test(line))
    t.equal(lines.length, 1, err)
    t.ok(lines[0]?.startsWith('error: ') && lines[0].includes(join(directory, place)), err)
    t.match(lines[0], message)
  }
})

t.test('if typebox is missing, the message says how to install it', async (t) => {
  const directory = await writeApp(t, {}, ['accepted'])
  const { err } = await fail(directory)
  t.ok(err.includes(`${join(directory, 'operations.js')}:3:23: Cannot find package 'typebox'`), err)
  t.match(err, 'npm install typebox')
})

t.test('a wrong member of the configuration is reported with the possible members or an example', async (t) => {
  for (const [member, message] of [
    ["handler: './handlers.js'", /unknown member 'handler'\. Use one of these: operations, handlers, routes, /],
    ['migrations: 5', /'migrations' must be a string, for example migrations: '\.\/migrations'/],
    ["authenticate: 'ann'", /'authenticate' must be a function, for example authenticate: /],
  ] as const) {
    const directory = await writeApp(t, {
      'accepted.config.js': `import * as operations from './operations.js'
        export default { operations, handlers: './handlers.js', ${member} }`,
    })
    const { code, err } = await fail(directory)
    t.equal(code, 1)
    t.match(err, message)
    t.equal(err.trimEnd().split('\n').length, 1)
  }
})

t.test('a compiled app starts with the paths of its sources', async (t) => {
  const databaseUrl = await createDatabase(t, { empty: true })
  const config = validApp['accepted.config.js']
    .replaceAll('.js', '.ts')
    .replace("'./operations.ts'", "'./operations.js'")
  const files = Object.entries({
    ...validApp,
    'accepted.config.js': config.replace('routes:', "migrations: './migrations', routes:"),
  })
  const directory = await writeApp(t, {
    ...Object.fromEntries(Object.keys(validApp).map((name) => [name, null])),
    ...Object.fromEntries(files.map(([name, content]) => [name === 'package.json' ? name : `dist/${name}`, content])),
    'dist/perform.js': 'export default async () => {}',
    'dist/handlers.js': `
      import { defineHandlers } from 'accepted/worker'
      import * as operations from './operations.js'
      export default defineHandlers(operations, { 'word.say': { perform: new URL('./perform.ts', import.meta.url) } })`,
    'migrations/0001_words.sql': 'create table word (text text);',
  })
  const compiled = join(directory, 'dist/accepted.config.js')
  const migrated = await run(['migrate', '--config', compiled], { DATABASE_URL: databaseUrl })
  t.match(migrated, { code: 0, out: /0001_words/, err: '' })
  for (const command of ['api', 'worker'] as const) {
    const program = await start(t, command, { config: compiled, databaseUrl })
    t.equal(await program.end(), 0)
  }
})

t.test('a worker does not start if the configuration and the handlers disagree', async (t) => {
  const more = `${validApp['operations.js']}
    export const shout = defineOperation({ name: 'word.shout', input: Type.Object({}) })`
  const handlersOf = (module: string, handlers: string) => `
    import { defineHandlers } from 'accepted/worker'
    import * as operations from './${module}'
    export default defineHandlers(operations, { ${handlers} })`
  const both = "'word.say': { settle: async () => {} }, 'word.shout': { settle: async () => {} }"
  const one = "'word.say': { settle: async () => {} }"
  const scheduled = `${validApp['operations.js']}
    import { defineSchedule } from 'accepted'
    export const daily = defineSchedule({ name: 'daily', cron: '@daily', operation: say, payload: {} })`
  for (const [files, message] of [
    [
      { 'operations.js': more, 'other.js': validApp['operations.js'], 'handlers.js': handlersOf('other.js', one) },
      /the operation word\.shout is only in the configuration/,
    ],
    [
      { 'other.js': more, 'handlers.js': handlersOf('other.js', both) },
      /the operation word\.shout is only in the handlers/,
    ],
    [
      { 'operations.js': scheduled, 'other.js': validApp['operations.js'], 'handlers.js': handlersOf('other.js', one) },
      /the schedule daily is only in the configuration/,
    ],
    [
      { 'other.js': scheduled, 'handlers.js': handlersOf('other.js', one) },
      /the schedule daily is only in the handlers/,
    ],
    [
      {
        'other.js': validApp['operations.js'].replace('input:', 'timeoutSeconds: 7, input:'),
        'handlers.js': handlersOf('other.js', one),
      },
      /the operation word\.say is defined differently in both \(timeoutSeconds\)/,
    ],
  ] as const) {
    const { code, err } = await fail(await writeApp(t, files))
    t.equal(code, 1)
    t.match(err, message)
    t.match(err, /^error: The configuration and .*handlers\.js disagree: .*\n$/)
  }
})
