import t from 'tap'
import { get, post } from '../support/client.ts'
import { createDatabase, queryOnce } from '../support/database.ts'
import { until } from '../support/until.ts'
import { createTables, startApi } from './main-flow.ts'

for (const [what, begin, end] of [
  [
    'the database allows no connections',
    'alter database $name allow_connections false',
    'alter database $name allow_connections true',
  ],
  ['the password is changed', "alter role $role password 'other'", "alter role $role password 'secret'"],
  ['the role may not log in', 'alter role $role nologin', 'alter role $role login'],
  ['the role may open no connections', 'alter role $role connection limit 0', 'alter role $role connection limit -1'],
] as const) {
  t.test(`while ${what}, requests get 503, and afterwards they are accepted`, async (t) => {
    const url = await createDatabase(t)
    const asRole = new URL(url)
    const name = asRole.pathname.slice(1)
    const role = `${name}_role`
    const admin = new URL(url)
    admin.pathname = '/postgres'
    const asAdmin = (text: string) => queryOnce(admin.href, text.replace('$name', name).replace('$role', role))
    await queryOnce(url, createTables)
    await asAdmin("create role $role login password 'secret' in role accepted_api")
    t.teardown(async () => {
      await queryOnce(url, `drop owned by ${role}`)
      await asAdmin('drop role $role')
    })
    asRole.username = role
    asRole.password = 'wrong'
    const ignoresPasswords = await queryOnce(asRole.href, 'select').then(
      () => true,
      () => false,
    )
    if (ignoresPasswords && begin.includes('password')) {
      return t.skip('the server does not ask for passwords', () => {})
    }
    asRole.password = 'secret'
    const api = await startApi(t, asRole.href)
    const submit = () => post(`${api.url}/words`, { word: 'x' })
    t.equal((await submit()).status, 202)
    await asAdmin(begin)
    await asAdmin("select pg_terminate_backend(pid) from pg_stat_activity where datname = '$name'")
    await until(async () => (await submit()).status !== 202)
    const { status, body, headers } = await submit()
    t.match({ status, body }, { status: 503, body: { error: { code: 'database-unavailable' } } })
    t.ok(headers.get('retry-after'))
    t.equal((await get(`${api.url}/health/ready`)).status, 503)
    await asAdmin(end)
    await until(async () => (await submit()).status === 202)
  })
}
