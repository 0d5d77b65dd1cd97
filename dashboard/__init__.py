"""The dashboard, ``streamlit run dashboard/app.py``: thin pages over what ``bench`` reads and draws."""
