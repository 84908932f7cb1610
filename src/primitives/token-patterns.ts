/**
 * Tokens that can be recognised by their first characters. Each pattern begins with a fixed text or a bounded
 * run. Only its last part is unbounded, so no text makes it backtrack for long.
 */
export const tokenPatterns = [
  '(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}', // AWS
  'eyJ[\\w-]{8,}[\\w.-]*', // JSON Web Tokens: base64url of `{"`
  '[ers]k_(?:live|test)_\\w+', // Stripe
  '(?:pi|seti|cs)_\\w{1,80}_secret_\\w+', // Stripe
  'whsec_[\\w+/=-]+', // Standard Webhooks
  'gh[a-z]_\\w+',
  'github_pat_\\w+',
  'gl[a-z]{2,6}-[\\w-]{16,}', // GitLab
  'xox[a-z][-.][\\w.-]+', // Slack
  'xapp-[\\w-]+',
  'hooks\\.slack\\.com/services/[^\\s"\']+',
  'discord(?:app)?\\.com/api/webhooks/[^\\s"\']+',
  '(?:AIza|GOCSPX-)[\\w-]{20,}', // Google
  'ya29\\.[\\w.-]+',
  '1//0[\\w-]{20,}',
  'sk-[\\w-]{16,}', // OpenAI, Anthropic
  'SG\\.[\\w.-]{16,}', // SendGrid
  'npm_\\w{20,}',
  'pypi-[\\w-]{16,}',
  'hf_\\w{20,}',
  'hv[bs]\\.[\\w.-]{16,}', // Vault
  'gl(?:sa|c)_\\w{16,}', // Grafana
  'sntry[a-z]_[\\w+/=-]+', // Sentry
  'lin_(?:api|oauth)_\\w+', // Linear
  '(?:secret|ntn)_\\w{20,}', // Notion
  '(?:gsk|r8|sbp|figd|bkua|rubygems|fo1|fm2)_[\\w-]{20,}', // Groq, Replicate, Supabase and others
  'pscale_[a-z]+_[\\w.-]+',
  'sq0[a-z]{3}-[\\w-]+', // Square
  'rzp_live_\\w+',
  'dp\\.[a-z]{2}\\.\\w{16,}', // Doppler
  '(?:PMAK|HRKU|NRAK|CCIPAT|AGE-SECRET-KEY)[-_][\\w-]{16,}',
  'AT(?:ATT3|CTT3|BB)[\\w=-]{16,}', // Atlassian
  'pat\\w{14}\\.\\w{20,}', // Airtable
  '(?:SK|key-|dapi)[0-9a-f]{32}', // Twilio, Mailgun, Databricks
  '[0-9a-f]{32}-us\\d+', // Mailchimp
  'do[opr]_v1_\\w+',
  'shp[a-z]{2}_\\w{16,}',
  'dckr_pat_[\\w-]+',
  '(?:bot)?\\d{8,12}:[\\w-]{30,}', // Telegram
  'accepted_[\\w-]{20,}', // our own API keys
]
