/**
 * The SQL in hints of our functions, of `accepted.stuck` and of the doctor, and the commands that do the same. A value
 * for which a shell needs quotes does not match.
 */
const commands: readonly (readonly [sql: RegExp, command: string])[] = [
  [/select accepted\.(cancel|retry)\('([\w.:@-]+)'\)/g, 'accepted jobs $1 $2'],
  [/select accepted\.resume\('([\w.:@-]+)'\)/g, 'accepted operations resume $1'],
  [/select accepted\.forget\('([\w.:@-]+)', cancel_pending => true\)/g, 'accepted jobs forget $1 --cancel-pending'],
  [
    /select accepted\.retry\(id\) from accepted\.job where parent = '([\w-]+)' and status <> 'succeeded'/g,
    'accepted jobs retry with the ids that this command prints: accepted jobs list --parent $1 --status failed',
  ],
  [/select \* from accepted\.timeline where job_id = …/g, 'accepted jobs show <id>'],
  [/select \* from accepted\.job_overview order by id desc limit 20\./g, 'accepted jobs list'],
  [/select id, url from accepted\.webhook_endpoint\./g, 'accepted webhooks list'],
]

/** Replaces the SQL in a hint by the commands that do the same. Other SQL stays. */
export const withCommands = (hint: string): string =>
  commands.reduce((text, [sql, command]) => text.replaceAll(sql, command), hint)
