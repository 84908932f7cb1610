import t from 'tap'
import { runMigrate } from '../migrate/support.ts'
import { fakeCitus } from '../support/citus.ts'
import { asRole, createDatabase, queryOnce } from '../support/database.ts'
import { checkCondition, codesOf, findingsAt } from './support.ts'

t.test('where Citus is installed, its table, its nodes and distributed tables are examined', async (t) => {
  const url = await createDatabase(t)
  await queryOnce(url, fakeCitus)
  t.match(await findingsAt({ url }), [
    { code: 'citus-table-missing', severity: 'error', message: /accepted\.two_phase/, action: /accepted migrate/ },
  ])
  await runMigrate({ url })
  t.same(await findingsAt({ url }), [])

  await checkCondition(t, url, {
    make: "delete from pg_dist_partition where logicalrelid = 'accepted.two_phase'::regclass",
    ...{ code: 'citus-table-unmanaged', severity: 'error', message: /without their job/ },
    action: "select citus_add_local_table_to_metadata('accepted.two_phase')",
  })
  await checkCondition(t, url, {
    make: "update health set result = false where to_nodename = 'two'",
    ...{ code: 'citus-node-away', severity: 'error', message: /without two:5432/, action: /Start the node/ },
    end: 'update health set result = true',
  })
  await checkCondition(t, url, {
    // By a column, and in a distributed schema.
    make: `insert into pg_dist_partition values ('accepted.attempt', 'h', 1), ('accepted_queue.job_common', 'n', 2)`,
    ...{ code: 'citus-tables-distributed', severity: 'error' },
    message: /distributes accepted\.attempt, accepted_queue\.job_common\..* jobs do not run/,
    action: /undistribute_table\('accepted\.attempt'\)/,
    end: 'delete from pg_dist_partition where colocationid <> 0',
  })

  await queryOnce(url, 'revoke delete on accepted.two_phase from accepted_api')
  t.match(codesOf(await findingsAt({ url: asRole(url, 'api') })), ['citus-table-not-writable'])
})

t.test('a node that does not answer is reported, and the other checks run', async (t) => {
  const url = await createDatabase(t)
  await queryOnce(url, fakeCitus)
  await runMigrate({ url })
  await queryOnce(url, 'update health set seconds = 60')
  t.match(await findingsAt({ url }), [{ code: 'citus-node-away', message: /a node that did not answer within 2 s/ }])
})
