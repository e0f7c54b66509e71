/* An invoice as JSON and as CSV. Amounts are strings: no reader turns them into floats. */
#include "base/json.h"
#include "billing/invoice.h"

void invoice_format_minor(int64_t minor, int decimals, char out[MONEY_TEXT_SIZE])
{
    long long unit = 1;
    for (int i = 0; i < decimals; i++)
        unit *= 10;
    unsigned long long size = minor < 0 ? -(unsigned long long)minor : (unsigned long long)minor;
    const char *sign = minor < 0 ? "-" : "";
    if (decimals == 0)
        snprintf(out, MONEY_TEXT_SIZE, "%s%llu", sign, size);
    else
        snprintf(out, MONEY_TEXT_SIZE, "%s%llu.%0*llu", sign, size / (unsigned long long)unit,
                 decimals, size % (unsigned long long)unit);
}

const char *invoice_item_title(const char *item)
{
    if (strcmp(item, "input_miss") == 0)
        return "Input tokens, cache miss";
    if (strcmp(item, "input_hit") == 0)
        return "Input tokens, cache hit";
    return "Output tokens";
}

/* Micro-units per million tokens are pico-units per token: the price of a million is x 10^6. */
static void format_unit_price(const struct invoice_line *l, char out[MONEY_TEXT_SIZE])
{
    money_format((money_pico)l->price_pico * 1000000, out);
}

static enum status put_member(struct buf *out, const char *name, const char *text)
{
    enum status st = buf_addf(out, "\"%s\": ", name);
    if (st != OK)
        return st;
    return text ? json_put_string(out, text, strlen(text)) : buf_adds(out, "null");
}

static enum status put_minor(struct buf *out, const struct invoice *i, const char *name,
                             int64_t minor)
{
    char text[MONEY_TEXT_SIZE];
    invoice_format_minor(minor, i->decimals, text);
    return buf_addf(out, "\"%s\": \"%s\"", name, text);
}

static enum status put_line(struct buf *out, const struct invoice *i, const struct invoice_line *l)
{
    char price[MONEY_TEXT_SIZE], exact[MONEY_TEXT_SIZE], net[MONEY_TEXT_SIZE];
    format_unit_price(l, price);
    money_format(l->amount_pico, exact);
    invoice_format_minor(l->amount_minor, i->decimals, net);
    enum status st = buf_adds(out, "{");
    if (st == OK)
        st = put_member(out, "project", l->project);
    if (st == OK)
        st = buf_adds(out, ", ");
    if (st == OK)
        st = put_member(out, "model", l->model);
    if (st != OK)
        return st;
    return buf_addf(out,
                    ", \"item\": \"%s\", \"description\": \"%s\", \"period_start\": \"%s\","
                    " \"period_end\": \"%s\", \"late\": %s, \"price_id\": \"%s\","
                    " \"quantity\": \"%s\", \"unit\": \"token\", \"unit_price\": \"%s\","
                    " \"base_quantity\": \"1000000\", \"exact_amount\": \"%s\", \"net\": \"%s\"}",
                    l->item, invoice_item_title(l->item), l->period_start, l->period_end,
                    l->late ? "true" : "false", l->price_id, l->tokens, price, exact, net);
}

static enum status put_head(struct buf *out, const struct invoice *i)
{
    const struct {
        const char *name, *text;
    } members[] = {
        {"number", i->number},
        {"state", i->state},
        {"issue_date", i->issued_at},
        {"due_date", i->due_at},
        {"period_start", i->period_start},
        {"period_end", i->period_end},
        {"currency", i->currency},
        {"tenant", i->tenant},
        {"tenant_id", i->tenant_id},
    };
    enum status st = buf_adds(out, "{");
    for (size_t m = 0; st == OK && m < sizeof members / sizeof *members; m++) {
        st = put_member(out, members[m].name, members[m].text);
        if (st == OK)
            st = buf_adds(out, ",\n ");
    }
    if (st == OK)
        st = buf_addf(out, "\"seller\": %s,\n \"buyer\": %s,\n ", i->seller ? i->seller : "null",
                      i->buyer ? i->buyer : "null");
    return st;
}

static enum status put_totals(struct buf *out, const struct invoice *i)
{
    const struct {
        const char *name;
        int64_t minor;
    } totals[] = {
        {"net", i->net_minor},     {"tax", i->tax_minor},
        {"total", i->total_minor}, {"paid_from_credit", i->credit_minor},
        {"due", i->due_minor},
    };
    enum status st = buf_addf(out, "],\n \"tax_percent\": \"%lld.%04lld\", \"reverse_charge\": %s",
                              (long long)(i->tax_ppm / 10000), (long long)(i->tax_ppm % 10000),
                              i->reverse_charge ? "true" : "false");
    for (size_t t = 0; st == OK && t < sizeof totals / sizeof *totals; t++) {
        st = buf_adds(out, ",\n ");
        if (st == OK)
            st = put_minor(out, i, totals[t].name, totals[t].minor);
    }
    return st == OK ? buf_adds(out, "}\n") : st;
}

enum status invoice_json(const struct invoice *i, struct buf *out)
{
    enum status st = put_head(out, i);
    if (st == OK)
        st = buf_adds(out, "\"lines\": [");
    for (int l = 0; st == OK && l < i->line_count; l++) {
        st = buf_adds(out, l ? ",\n  " : "\n  ");
        if (st == OK)
            st = put_line(out, i, &i->lines[l]);
    }
    return st == OK ? put_totals(out, i) : st;
}

/* A text cell: always quoted; what a spreadsheet takes for a formula gets a ' in front. */
static enum status put_cell(struct buf *out, const char *text)
{
    enum status st = buf_adds(out, strchr("=+-@\t\r", *text) && *text ? "\"'" : "\"");
    for (; st == OK && *text; text++)
        st = *text == '"' ? buf_adds(out, "\"\"") : buf_add(out, text, 1);
    return st == OK ? buf_adds(out, "\"") : st;
}

static enum status put_csv_line(struct buf *out, const struct invoice *i,
                                const struct invoice_line *l)
{
    char price[MONEY_TEXT_SIZE], exact[MONEY_TEXT_SIZE], net[MONEY_TEXT_SIZE];
    format_unit_price(l, price);
    money_format(l->amount_pico, exact);
    invoice_format_minor(l->amount_minor, i->decimals, net);
    const char *const texts[] = {i->number ? i->number : "", i->tenant, l->project, l->model,
                                 invoice_item_title(l->item)};
    enum status st = OK;
    for (size_t t = 0; st == OK && t < sizeof texts / sizeof *texts; t++) {
        st = put_cell(out, texts[t]);
        if (st == OK)
            st = buf_adds(out, ",");
    }
    if (st != OK)
        return st;
    return buf_addf(out, "%s,%s,%s,%s,%s,1000000,%s,%s,%s\r\n", l->period_start, l->period_end,
                    l->late ? "yes" : "no", l->tokens, price, exact, net, i->currency);
}

enum status invoice_csv(const struct invoice *i, struct buf *out)
{
    enum status st =
        buf_adds(out, "invoice,tenant,project,model,item,period_start,period_end,late,tokens,"
                      "unit_price,base_quantity,exact_amount,net,currency\r\n");
    for (int l = 0; st == OK && l < i->line_count; l++)
        st = put_csv_line(out, i, &i->lines[l]);
    return st;
}
