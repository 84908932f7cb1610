import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { createProgram } from '../../src/cli/commands.ts'
import { createDatabase, queryOnce } from '../support/database.ts'
import { run } from '../support/in-process.ts'
import { todosConfig } from '../support/program.ts'

const main = join(import.meta.dirname, '../../src/cli/main.ts')
const DATABASE_URL = await createDatabase(t)
await run(['migrate', '--config', todosConfig], { DATABASE_URL })

const complete = async (line: string, env: NodeJS.ProcessEnv = { DATABASE_URL }) => {
  const { code, out, err } = await run(['__complete', '--', ...line.split(' ')], env)
  t.same([code, err], [0, ''], line)
  return out.split('\n').filter((candidate) => candidate !== '')
}

t.test('commands, options and their values are completed', async (t) => {
  const names = createProgram().commands.map((command) => command.name())
  t.same(
    await complete(''),
    names.filter((name) => name !== '__complete'),
  )
  t.same(await complete('jobs re'), ['retry', 'redrive'])
  t.same(await complete('jobs list --st'), ['--status'])
  t.same(await complete('jobs list --json --'), [
    '--status',
    '--operation',
    '--principal',
    '--error',
    '--resource',
    '--key',
    '--parent',
    '--not-retried',
    '--since',
    '--until',
    '--before',
    '--limit',
    '--watch',
    '--json',
    '--config',
    '--help',
  ])
  t.same(await complete('jobs list --status s'), ['succeeded'])
  t.same(await complete('jobs list --status = s'), ['succeeded'], 'as bash splits --status=s')
  t.match(await complete('jobs list --status ='), ['queued', 'running'], 'as bash splits --status=')
  t.same(await complete('jobs list --status=s'), ['--status=succeeded'], 'as zsh and fish leave it')
  t.same(await complete('jobs list --status failed --operation todo.cr'), ['todo.create'])
  t.same(await complete('keys add ops --scopes read,su'), ['read,submit'])
  t.same(await complete('completion '), ['bash', 'zsh', 'fish'])
  t.same(await complete('jobs list --config '), [], 'the shell completes files')
  t.same(await complete('jobs show 0'), [])
})

t.test('names of operations are read from the database, if there is one', async (t) => {
  t.same(await complete('operations pause r'), ['reminder.send'])
  t.same(await complete('worker --operations todo.create,rem'), ['todo.create,reminder.send'])
  t.same(await complete('operations pause r', { DATABASE_URL: '' }), [])
  t.same(await complete('operations pause r', { DATABASE_URL: 'postgres://ann@127.0.0.1:1/none' }), [])
  t.same(await complete('operations pause r', { DATABASE_URL: 'nonsense' }), [])
})

t.test('ids are completed with those that the command takes', async (t) => {
  const [queued, canceled] = await Promise.all(
    [0, 1].map(async () => (await queryOnce(DATABASE_URL, `select accepted.enqueue('webhook.deliver') as id`))[0].id),
  )
  await queryOnce(DATABASE_URL, `select accepted.cancel('${canceled}')`)
  t.same((await complete('jobs show ')).sort(), [queued, canceled].sort())
  t.same(await complete(`jobs show ${queued} ${canceled.slice(0, -2)}`), [canceled])
  t.same(await complete('jobs cancel '), [queued])
  t.same(await complete('jobs run '), [queued])
  t.same(await complete('jobs retry '), [canceled])
  t.same((await complete('jobs list --parent ')).length, 2)
  t.same(await complete('batches show '), [])
  const { id } = JSON.parse((await run(['keys', 'add', 'ops', '--json'], { DATABASE_URL })).out)
  t.same(await complete('keys revoke '), [id])
  const added = JSON.parse((await run(['webhooks', 'add', 'https://example.com', '--json'], { DATABASE_URL })).out)
  t.same(await complete('webhooks log '), [added.id])
  t.same(await complete('webhooks remove '), [added.id])
  t.same(await complete('webhooks resend '), [])
})

t.test('the script completes in bash', async (t) => {
  const script = `
    accepted() { ${process.execPath} --conditions=accepted-source ${main} "$@"; }
    eval "$(accepted completion bash)"
    complete -p accepted
    COMP_WORDS=(accepted operations pause todo.cr) COMP_CWORD=3
    _accepted
    printf '%s\\n' "\${COMPREPLY[@]}"`
  const { stdout, stderr } = await promisify(execFile)('bash', ['-c', script], {
    env: { ...process.env, DATABASE_URL },
  })
  t.same([stdout, stderr], ['complete -o default -F _accepted accepted\ntodo.create\n', ''])
})

t.test('an unknown shell is refused', async (t) => {
  const { code, err } = await run(['completion', 'tcsh'])
  t.equal(code, 1)
  t.match(err, /Allowed choices are bash, zsh, fish\./)
})
