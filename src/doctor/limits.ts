/** The limits above which a check reports something. */
export const defaultLimits = {
  /** A transaction of another session is reported after this time. After {@link Limits.longSeconds}, it is an error. */
  transactionSeconds: 300,
  longSeconds: 3_600,
  /** A prepared transaction, slot or standby is reported if it keeps the rows of so many transactions from vacuum. */
  heldTransactions: 1_000_000,
  /** An unused slot is reported if it keeps so much WAL. */
  slotBytes: 1e9,
  /** A table is reported if it has so many dead rows, and one for five live rows. Autovacuum comes once a minute. */
  deadRows: 1_000_000,
  /** Postgres stops accepting writes at two billion. Autovacuum acts at 200 million, by default. */
  transactionAge: 500_000_000,
  /** Smaller indexes are not reported, however bloated. */
  indexBytes: 64 * 2 ** 20,
  /** How many times larger than its rows need an index must be to count as bloated. */
  bloatFactor: 4,
  /** Counters of index scans that were reset more recently say nothing. */
  unusedIndexDays: 7,
  /** The share of the notification queue that may be in use. When the queue is full, NOTIFY fails at commit. */
  notificationQueueShare: 0.5,
  /** How long a notification may take. */
  notificationMs: 5_000,
  clockSkewSeconds: 5,
  /** The share of the connections that may be in use. */
  connectionShare: 0.9,
  /** For so long, workers may be late in dropping a day. */
  dropDelaySeconds: 2 * 86_400,
  /** Maximum number of findings with the same code. */
  findings: 10,
  /** Maximum number of jobs of an operation, and of jobs of all operations, that are compared with the queue. */
  comparedJobs: 2_000,
}

export type Limits = Readonly<typeof defaultLimits>
